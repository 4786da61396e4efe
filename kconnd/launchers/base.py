"""The launcher interface: a launcher runs kernels in one kind of environment.

Rules. A launcher gets a `LaunchPlan` with all that it needs. It returns a `Handle`, which is plain
data: the daemon saves it, and a later daemon can use it. All launchers pass the same contract suite
in ``tests/launchers``.
"""

from dataclasses import dataclass
from typing import Any, Protocol

from kconnd.core.kernel.events import Step
from kconnd.core.launch.plan import LaunchPlan
from kconnd.system.process.processes import ProcessId


@dataclass(frozen=True)
class Handle:
    """The data with which any daemon finds a launched kernel.

    Parameters
    ----------
    launcher : str
        The name of the launcher.
    generation : int
        The number of this launch of the kernel.
    boot_id : str
        The boot of the machine in which it runs.
    shim, kernel : ProcessId
        Its two processes.
    exit_file : str
        The file into which the shim writes how the kernel ended.
    lock : str
        The file that the shim holds locked.
    facts : str
        The file into which the shim wrote its facts; empty for a kernel of an older version.
    note : str
        A remark about the launch, such as why the kernel was not forked.
    launch : int, optional
        The generation that the shim writes, if it differs.
    cgroup : str
        The cgroup that was created for this kernel alone; empty if there is none.
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
        """Return the handle as plain data."""
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
    """Parse a saved handle, or the facts that a shim wrote."""
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
class ExitStatus:
    """How a kernel ended.

    Parameters
    ----------
    code, signal : int, optional
        The exit code or the signal; both are None if no process observed the end.
    at : float, optional
        The time, in seconds since the epoch.
    oom : bool
        Whether the OOM killer ended it.
    oom_own : bool
        Whether it reached its own memory limit; also true if that is unknown.
    oom_above : str
        The cgroup above it whose memory limit was reached, if any.
    unit_stopped : bool
        Whether the service manager stopped its unit.
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
        """Whether no process observed the end."""
        return self.code is None and self.signal is None


class Launcher(Protocol):
    """Launches and controls kernels."""

    async def launch(self, plan: LaunchPlan) -> Handle:
        """Start the kernel.

        Raises
        ------
        StartFailedError
            If that fails. Nothing remains of the attempt.
        """
        ...

    async def prepare(self, plan: LaunchPlan) -> None:
        """Prepare for a later launch of this kind, to make it fast."""
        ...

    def expect(self, requested_at_ns: int) -> None:
        """Announce, without waiting, that a kernel was requested and its plan is being made.

        Parameters
        ----------
        requested_at_ns : int
            The monotonic time of the request, which the plan will contain.
        """
        ...

    async def wait(self, handle: Handle) -> ExitStatus:
        """Wait until all processes of the kernel have ended."""
        ...

    async def stop(self, handle: Handle, step: Step) -> None:
        """Take one step of a stop by sending a signal."""
        ...

    async def signal(self, handle: Handle, number: int) -> None:
        """Send a signal to the kernel and its process group, as Jupyter does."""
        ...

    async def adopt(self, handle: Handle) -> str:
        """Prove that the kernel is alive and that the handle's processes are its own.

        Returns
        -------
        str
            The evidence; ``""`` if there is none.
        """
        ...

    async def find(self, facts: str, exit_file: str, lock: str) -> Handle | None:
        """Find the kernel of a launch that a daemon could not record before it died.

        If the launch is in progress, this waits for it.

        Parameters
        ----------
        facts, exit_file, lock : str
            The paths in the plan of that launch.
        """
        ...
