"""Decides which event describes a kernel that an earlier daemon launched.

Rules. A live process holds a user's work, so the daemon adopts it in every recorded state. A
process that exited while no daemon ran is supervised like a live process: its exit status is in its
exit file. This module does not restart processes of an earlier boot.
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
        The kernel as its record has it.
    launch : int, optional
        The generation that a shim recorded in this run of the machine, whether its process lives
        or not; None without such a record.
    alive : bool
        Whether that process lives and is proved to be ours.
    forgotten : bool
        Whether the kernel's own record was lost, so that ``kernel`` is a default.
    rebooted : bool
        Whether the record is from an earlier run of the machine.

    Returns
    -------
    Event, optional
        The event to apply; None if the record is right, or if watching the process will show it.
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
