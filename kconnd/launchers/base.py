"""What a launcher is: a home that a kernel can have.

Rules. A launcher gets a `LaunchPlan` and looks nothing up. What it gives back, a `Handle`, is
plain data: it is saved, and another daemon can go on with it. Every launcher passes the one
contract suite in ``tests/launchers``.
"""

from dataclasses import dataclass
from typing import Any, Protocol

from kconnd.core.kernel.events import Step
from kconnd.core.launch.plan import LaunchPlan
from kconnd.system.process.processes import ProcessId


@dataclass(frozen=True)
class Handle:
    """How to find a launched kernel again.

    Parameters
    ----------
    launcher : str
        Which launcher made it.
    generation : int
        Which launch of its kernel.
    boot_id : str
        The run of the machine that it lives in.
    shim, kernel : ProcessId
        Its two processes.
    exit_file : str
        Where the shim says how the kernel ended.
    lock : str
        The file that the shim holds locked.
    facts : str
        The file that it wrote about itself; empty where an older version launched it.
    note : str
        What is to be said about how it was launched, such as why it was not forked.
    launch : int, optional
        What the shim takes for the generation, where it is another.
    cgroup : str
        The one that was made for this kernel alone; empty where none was.
    """

    launcher: str
    generation: int
    boot_id: str
    shim: ProcessId
    kernel: ProcessId
    exit_file: str
    lock: str
    facts: str = ""
    note: str = ""
    launch: int | None = None
    cgroup: str = ""

    def to_json(self) -> dict[str, Any]:
        """Give it as plain data."""
        return {
            "launcher": self.launcher,
            "generation": self.generation,
            "boot_id": self.boot_id,
            "shim": [self.shim.pid, self.shim.started],
            "kernel": [self.kernel.pid, self.kernel.started],
            "exit_file": self.exit_file,
            "lock": self.lock,
            "facts": self.facts,
            "note": self.note,
            "launch": self.launch,
            "cgroup": self.cgroup,
        }


def parse_handle(content: dict[str, Any]) -> Handle:
    """Read a handle that was saved, or the facts that a shim wrote."""
    return Handle(
        launcher=str(content["launcher"]),
        generation=int(content["generation"]),
        boot_id=str(content["boot_id"]),
        shim=ProcessId(*map(int, content["shim"])),
        kernel=ProcessId(*map(int, content["kernel"])),
        exit_file=str(content["exit_file"]),
        lock=str(content["lock"]),
        facts=str(content.get("facts", "")),
        note=str(content.get("note", "")),
        launch=content.get("launch"),
        cgroup=str(content.get("cgroup", "")),
    )


@dataclass(frozen=True)
class Exit:
    """How a kernel ended.

    Parameters
    ----------
    code, signal : int, optional
        One of them; neither where nobody saw it.
    at : float, optional
        When, in seconds since the epoch.
    oom : bool
        Whether it was killed for memory.
    oom_own : bool
        Whether its own limit was reached, or that is not known.
    oom_above : str
        The control group above whose limit was reached, if one was.
    unit_stopped : bool
        Whether the service manager ended the unit that it is.
    """

    code: int | None = None
    signal: int | None = None
    at: float | None = None
    oom: bool = False
    oom_own: bool = True
    oom_above: str = ""
    unit_stopped: bool = False

    @property
    def lost(self) -> bool:
        """Whether nobody saw how it ended."""
        return self.code is None and self.signal is None


class Launcher(Protocol):
    """A home for kernels."""

    async def launch(self, plan: LaunchPlan) -> Handle:
        """Make the process.

        Raises
        ------
        StartFailedError
            If there can be none; nothing of it is left then.
        """
        ...

    async def prepare(self, plan: LaunchPlan) -> None:
        """Do ahead of time what makes a launch of this kind quick."""
        ...

    def expect(self, asked: int) -> None:
        """Hear, without waiting, that a kernel was asked for, whose plan is being made.

        ``asked`` is when, in nanoseconds of the monotonic clock, as the plan will say.
        """
        ...

    async def wait(self, handle: Handle) -> Exit:
        """Wait until every process of the kernel is gone."""
        ...

    async def stop(self, handle: Handle, step: Step) -> None:
        """Take one of the steps of a stop that go by signal."""
        ...

    async def signal(self, handle: Handle, number: int) -> None:
        """Signal the kernel and its process group, as Jupyter does."""
        ...

    async def adopt(self, handle: Handle) -> str:
        """Prove that the kernel is still there and still ours.

        Returns
        -------
        str
            By what that is proved; ``""`` where it is not.
        """
        ...

    async def find(self, facts: str, exit_file: str, lock: str) -> Handle | None:
        """Find what was launched with these paths by a daemon that could not note it any more.

        A launch that is just under way is waited for.
        """
        ...
