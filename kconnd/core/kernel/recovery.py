"""Decides which event a new daemon applies to a kernel that an earlier daemon launched.

Rules. A live process holds a user's work, so the daemon adopts the process, whatever state the
kernel's record contains. If a process exited while no daemon ran, the daemon watches the process as
if it were alive, and thereby finds the exit status in ``exit.json``. A restart of the machine is no
reason for this module to launch a kernel again.
"""

from kconnd.core.kernel.events import (
    Adopted,
    Discovered,
    Event,
    Exited,
    MachineRestarted,
    NeverLaunched,
)
from kconnd.core.kernel.lifecycle import LIVE, Lifecycle, State


def recover(
    kernel: Lifecycle, *, launch: int | None, alive: bool, forgotten: bool, rebooted: bool
) -> Event | None:
    """Decide what happened to a kernel while no daemon ran.

    Parameters
    ----------
    kernel : Lifecycle
        The kernel's state in its record.
    launch : int, optional
        The generation of the process that a shim recorded since the last boot, even if the process
        is dead; None if no shim recorded a process.
    alive : bool
        Whether the process that the shim recorded is alive and is proved to be the kernel's.
    forgotten : bool
        Whether the kernel's record was lost, so that ``kernel`` has only default values.
    rebooted : bool
        Whether the record was saved before the last boot.

    Returns
    -------
    Event, optional
        The event to apply; None if the record is correct, or if the process has exited and the
        daemon will see its exit by watching it.
    """
    lives, waits = kernel.state in LIVE, kernel.state is State.BACKOFF
    if lives and launch == kernel.generation:
        return Adopted(kernel.generation) if alive else None
    if launch is not None and (alive or forgotten):
        return Discovered(launch)
    if rebooted and (lives or waits):
        return MachineRestarted(kernel.generation)
    if waits:
        return Adopted(kernel.generation)
    return _without_trace(kernel) if lives else None


def _without_trace(kernel: Lifecycle) -> Event:
    if kernel.state is State.LAUNCHING:
        return NeverLaunched(kernel.generation)
    return Exited(kernel.generation, "no process and no record of its exit is left", lost=True)
