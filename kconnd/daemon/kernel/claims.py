"""Decides, without changing anything, whether a recorded kernel belongs to this daemon.

Looked at are its record, its lock in the state folder, and what its shim wrote: into the locked
file, and into the folder of what lives. A process counts as found if it is alive by pid and start
time, in this run of the machine and in this pid namespace, and has our host's name. In a container
that sees all pids of its machine, the last is what tells its own kernels from the machine's.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from kconnd.core.kernel.lifecycle import LIVE, State
from kconnd.core.kernel.locality import Evidence, Lock, choose_holder, is_elsewhere, is_here
from kconnd.core.kernel.record import KernelRecord, Origin
from kconnd.daemon.context import World
from kconnd.errors import RefusedError
from kconnd.launchers.base import parse_handle
from kconnd.system.files.kernel_lock import Holder, is_local, look_at_lock, read_holder
from kconnd.system.process.processes import ProcessId, is_alive, shares_host_name


@dataclass(frozen=True)
class Foreign:
    """A kernel that is another machine's or container's, or one that cannot be told from those.

    Parameters
    ----------
    record : KernelRecord
        What is on record of it, with what is known of where it runs.
    held : bool
        Whether some process holds its lock.
    here : bool
        Whether that process should be here, as far as is known, and is not found: it may have
        locked and not said yet who it is.
    """

    record: KernelRecord
    held: bool
    here: bool

    @property
    def starts(self) -> bool:
        """Whether a process of our own may be about to say who it is."""
        return self.here and self.record.lifecycle.state is State.LAUNCHING

    @property
    def host(self) -> str:
        """Where it runs, or did when that was last known."""
        return (self.record.origin.host if self.record.origin else "") or "another machine"

    @property
    def may_live(self) -> bool:
        """Whether it may be somebody's live kernel."""
        return self.held or self.record.lifecycle.state in LIVE


def refuse(foreign: Foreign, world: World) -> RefusedError:
    """Say whose a kernel is, and what its user can do."""
    name, files = foreign.record.name, world.files(foreign.record.name)
    if foreign.here:
        return RefusedError(
            f"some process holds the lock of {name} and is not found from here",
            hint=f"'fuser {files.lock}' may find it; nothing of {name} is touched until it ends",
        )
    hint = "ask the daemon there; or give each machine or container a folder, with --state-dir"
    if not foreign.held:
        hint += f"; if {foreign.host} is gone for good, remove {files.folder}"
    whose = foreign.host
    if whose == world.store.origin.host:
        whose = f"another container or pid namespace of {whose}"
    return RefusedError(f"{name} is a kernel of {whose}, which shares this state folder", hint=hint)


def find_foreign(world: World, name: str) -> Foreign | None:
    """Tell whether a kernel is another's; None where it is ours, or where there is none."""
    record, here = world.store.peek(name), world.store.origin
    evidence = _gather(world, name, record, look_at_lock(Path(world.files(name).lock)))
    if not is_elsewhere(evidence, here):
        return None
    held = evidence.lock is Lock.HELD
    record = record or KernelRecord(name)
    if held and record.lifecycle.state not in LIVE:
        record = replace(record, lifecycle=replace(record.lifecycle, state=State.RUNNING))
    holder = choose_holder(evidence, here)
    return Foreign(replace(record, origin=holder), held, holder is None or is_here(holder, here))


def is_held(world: World, name: str) -> bool:
    """Tell whether some process holds a kernel's lock, also where older versions had it."""
    files = world.files(name)
    return Lock.HELD in {look_at_lock(Path(lock)) for lock in (files.lock, files.old_lock)}


def is_held_elsewhere(world: World, lock: Path) -> bool:
    """Tell whether a lock is held by a process that says who it is and is not found here."""
    holder = read_holder(lock)
    held = look_at_lock(lock) is Lock.HELD
    return held and holder is not None and not _is_found(holder, None, world.store.origin)


def _gather(world: World, name: str, record: KernelRecord | None, lock: Lock) -> Evidence:
    here, files = world.store.origin, world.files(name)
    locked, facts = read_holder(Path(files.lock)), read_holder(Path(files.facts))
    return Evidence(
        state=record.lifecycle.state if record else None,
        recorded=record.origin if record else None,
        locked=locked.origin if locked else None,
        lock=lock,
        proved=any(_is_found(holder, facts, here) for holder in _holders(record, locked, facts)),
        local=is_local(world.store.path(name).parent),
    )


def _holders(record: KernelRecord | None, *others: Holder | None) -> Iterator[Holder]:
    """Give each process that is on record somewhere."""
    if record is not None and record.handle is not None and record.origin is not None:
        try:
            handle = parse_handle(dict(record.handle))
            origin = replace(record.origin, boot_id=handle.boot_id)
            yield Holder(origin, handle.shim, handle.kernel)
        except (KeyError, TypeError, ValueError):
            pass  # the others tell
    yield from (holder for holder in others if holder is not None)


def _is_found(holder: Holder, facts: Holder | None, here: Origin) -> bool:
    """Tell whether a process on record is alive here, and nobody else's."""
    origin = holder.origin
    other_pids = origin.pid_namespace and origin.pid_namespace != here.pid_namespace
    if origin.boot_id != here.boot_id or other_pids:
        return False
    alive = [one for one in (holder.shim, holder.kernel) if _is_alive(one)]
    ours = origin.host in {here.host, ""} or (facts is not None and facts.shim == holder.shim)
    return bool(alive) and (ours or any(map(shares_host_name, alive)))


def _is_alive(process: ProcessId) -> bool:
    try:
        return is_alive(process)
    except OSError:  # for want of descriptors, say: it is looked at again in a while
        return False
