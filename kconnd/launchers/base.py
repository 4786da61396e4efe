"""The launcher interface: a launcher starts, controls and finds the processes of kernels.

Rules. A launcher gets a complete `LaunchPlan` and returns a `Handle`. A handle is plain data: the
daemon saves the handle, and a later daemon can use it. All launchers pass the same contract tests
in ``tests/launchers``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from kconnd.core.kernel.events import Step
from kconnd.core.launch.plan import LaunchPlan
from kconnd.system.process.processes import ProcessId


@dataclass(frozen=True)
class Handle:
    """The data from which any daemon can find a launched kernel.

    Parameters
    ----------
    launcher : str
        The name of the launcher.
    generation : int
        The sequence number of this launch of the kernel.
    boot_id : str
        The boot id of the machine at the launch.
    shim, kernel : ProcessId
        The processes of the shim and of the kernel.
    exit_file : str
        The file into which the shim writes the kernel's exit status.
    lock : str
        The lock file, which the shim keeps locked.
    facts : str
        The file into which the shim wrote its facts (pids, start times, boot id); empty if an older
        kconnd saved the handle.
    note : str
        A remark about the launch, such as why the kernel was not forked.
    launch : int, optional
        The generation in the shim's exit file, if it differs from ``generation``: the shim of a
        warm kernel keeps its first generation after the hand-over.
    cgroup : str
        The cgroup that was created for this kernel alone; ``""`` if there is none.
    limits : mapping
        The limits of the profile that are enforced, as in `LaunchPlan`.
    unenforced : mapping
        The limits of the profile that are not enforced, with the reasons.
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
    limits: Mapping[str, float] = field(default_factory=dict)
    unenforced: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the handle as plain data."""
        limits = {"limits": dict(self.limits)} if self.limits else {}
        unenforced = {"unenforced": dict(self.unenforced)} if self.unenforced else {}
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
            **limits,
            **unenforced,
        }


def parse_handle(content: dict[str, Any]) -> Handle:
    """Parse a saved handle or the facts of a shim."""
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
        limits={str(key): float(limit) for key, limit in content.get("limits", {}).items()},
        unenforced={str(key): str(why) for key, why in content.get("unenforced", {}).items()},
    )


@dataclass(frozen=True)
class ExitStatus:
    """The exit status of a kernel.

    Parameters
    ----------
    code, signal : int, optional
        The exit code, or the number of the signal that ended the kernel; the other is None. Both
        are None if no process observed the exit.
    at : float, optional
        The time of the exit, in seconds since the epoch.
    oom : bool
        Whether the OOM killer killed the kernel.
    oom_own : bool
        Whether the kernel's own cgroup reached its memory limit; True if an older shim did not
        record this.
    oom_above : str
        The parent cgroup whose memory limit was reached; ``""`` if there is none.
    unit_stopped : bool
        Whether the service manager stopped the kernel's unit.
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
        """Whether no process observed the exit."""
        return self.code is None and self.signal is None


class Launcher(Protocol):
    """Launches and controls kernels."""

    async def launch(self, plan: LaunchPlan) -> Handle:
        """Start the kernel.

        Raises
        ------
        StartFailedError
            If the launch fails. Nothing of the attempt is left behind.
        """
        ...

    async def prepare(self, plan: LaunchPlan) -> None:
        """Do work in advance that makes a later launch of a similar plan fast."""
        ...

    def expect(self, requested_at_ns: int) -> None:
        """Announce a launch whose plan the daemon is still making; return at once.

        Parameters
        ----------
        requested_at_ns : int
            The time of the request, in nanoseconds of the monotonic clock; the plan will contain
            this time.
        """
        ...

    async def wait(self, handle: Handle) -> ExitStatus:
        """Wait until all processes of the kernel have ended."""
        ...

    async def stop(self, handle: Handle, step: Step) -> None:
        """Take one step of a stop: send the signal of this step."""
        ...

    async def signal(self, handle: Handle, number: int) -> None:
        """Send a signal to the kernel and its process group, as Jupyter does."""
        ...

    async def adopt(self, handle: Handle) -> str:
        """Prove that the kernel is alive and that the handle's processes belong to the kernel.

        Returns
        -------
        str
            The evidence, as text for users; ``""`` without evidence.
        """
        ...

    async def find(self, facts: str, exit_file: str, lock: str) -> Handle | None:
        """Find the kernel of an unrecorded launch, during which the daemon died.

        If the launch is still in progress, this method waits until the launch has finished.

        Parameters
        ----------
        facts, exit_file, lock : str
            The paths of these three files, from the plan of that launch.
        """
        ...
