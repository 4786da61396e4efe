"""Decides, without changing anything, whether a recorded kernel belongs to this daemon.

The evidence is the kernel's record, the kernel's lock in the state folder, and the facts that the
shim wrote to the lock file and to the runtime folder. A recorded process belongs to this daemon
under two conditions. First, its pid and start time are those of a live process. Second, its boot
id, pid namespace and host name equal those of the daemon. The host name distinguishes a machine
from a container that shares the machine's pid namespace.
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
from kconnd.system.files.kernel_lock import Holder, is_local, probe_lock, read_holder
from kconnd.system.process.processes import ProcessId, is_alive, shares_host_name


@dataclass(frozen=True)
class Foreign:
    """A kernel that belongs, or may belong, to another machine or container.

    Parameters
    ----------
    record : KernelRecord
        The kernel's record; its origin is the system on which the kernel runs.
    locked : bool
        Whether a process holds the kernel's lock.
    here : bool
        Whether the evidence points to this system, but no live process was found. This is so, for
        example, while a shim has taken the lock and has not written its facts yet.
    """

    record: KernelRecord
    locked: bool
    here: bool

    @property
    def starts(self) -> bool:
        """Whether the record says ``launching`` and the evidence points to this system."""
        return self.here and self.record.lifecycle.state is State.LAUNCHING

    @property
    def host(self) -> str:
        """The host on which the kernel runs, according to the latest evidence."""
        return (self.record.origin.host if self.record.origin else "") or "another machine"

    @property
    def may_live(self) -> bool:
        """Whether the kernel may be alive; if so, its files must not be changed."""
        return self.locked or self.record.lifecycle.state in LIVE


def refuse(foreign: Foreign, world: World) -> RefusedError:
    """Build the error for a request about a foreign kernel, with a hint for the user."""
    name, files = foreign.record.name, world.files(foreign.record.name)
    if foreign.here:
        return RefusedError(
            f"a process that cannot be found from here holds the lock of {name}",
            hint=f"'fuser {files.lock}' may find it; {name} is not touched until the process exits",
        )
    hint = "ask the daemon there; or give each machine or container a folder, with --state-dir"
    if not foreign.locked:
        hint += f"; if {foreign.host} is gone for good, remove {files.folder}"
    whose = foreign.host
    if whose == world.store.origin.host:
        whose = f"another container or pid namespace of {whose}"
    return RefusedError(f"{name} is a kernel of {whose}, which shares this state folder", hint=hint)


def find_foreign(world: World, name: str) -> Foreign | None:
    """Return the kernel of a name if it is foreign (see `Foreign`), else None."""
    record, here = world.store.peek(name), world.store.origin
    evidence = _gather(world, name, record, probe_lock(Path(world.files(name).lock)))
    if not is_elsewhere(evidence, here):
        return None
    locked = evidence.lock is Lock.HELD
    record = record or KernelRecord(name)
    if locked and record.lifecycle.state not in LIVE:
        record = replace(record, lifecycle=replace(record.lifecycle, state=State.RUNNING))
    holder = choose_holder(evidence, here)
    return Foreign(replace(record, origin=holder), locked, holder is None or is_here(holder, here))


def is_held(world: World, name: str) -> bool:
    """Return whether a process holds a kernel's lock, at the path of this or of older versions."""
    files = world.files(name)
    return Lock.HELD in {probe_lock(Path(lock)) for lock in (files.lock, files.old_lock)}


def is_held_elsewhere(world: World, lock: Path) -> bool:
    """Return whether a process of another system holds a lock, by the facts in the lock file."""
    holder = read_holder(lock)
    locked = probe_lock(lock) is Lock.HELD
    return locked and holder is not None and not _is_found(holder, None, world.store.origin)


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


def _holders(record: KernelRecord | None, *recorded: Holder | None) -> Iterator[Holder]:
    """Yield each process that the record or the shim's facts name."""
    if record is not None and record.handle is not None and record.origin is not None:
        try:
            handle = parse_handle(dict(record.handle))
            origin = replace(record.origin, boot_id=handle.boot_id)
            yield Holder(origin, handle.shim, handle.kernel)
        except (KeyError, TypeError, ValueError):
            pass  # the shim's facts are used instead
    yield from (holder for holder in recorded if holder is not None)


def _is_found(holder: Holder, facts: Holder | None, here: Origin) -> bool:
    """Return whether a recorded process is alive in ``here``: this boot, pid namespace and host."""
    origin = holder.origin
    other_pids = origin.pid_namespace and origin.pid_namespace != here.pid_namespace
    if origin.boot_id != here.boot_id or other_pids:
        return False
    alive = [process for process in (holder.shim, holder.kernel) if _is_alive(process)]
    ours = origin.host in {here.host, ""} or (facts is not None and facts.shim == holder.shim)
    return bool(alive) and (ours or any(map(shares_host_name, alive)))


def _is_alive(process: ProcessId) -> bool:
    try:
        return is_alive(process)
    except OSError:  # for example, no free file descriptor; the periodic repair checks again
        return False
