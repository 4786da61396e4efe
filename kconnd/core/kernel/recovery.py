"""What a new daemon makes of a kernel that an earlier one left: pure, one decision each.

Rules. A process that lives is somebody's work: it is taken up, whatever the record says. What
is not alive and was not seen to end is watched like any other: its exit file tells. Nothing
that belonged to an earlier run of the machine is started again here.
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
    """Decide what has happened to a kernel while no daemon looked.

    Parameters
    ----------
    kernel : Lifecycle
        Where it stood, as saved.
    launch : int, optional
        The generation of the process that was found recorded, dead or alive, in this run of
        the machine; None where there is no such record.
    alive : bool
        Whether that process lives and is proved to be ours.
    forgotten : bool
        Whether the kernel's own record was lost, so that ``kernel`` says nothing.
    rebooted : bool
        Whether the record is of an earlier run of the machine.

    Returns
    -------
    Event, optional
        What to tell; None where the record is right, or where watching the process will tell.
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
    return Exited(kernel.generation, "nothing is left of it", lost=True)
