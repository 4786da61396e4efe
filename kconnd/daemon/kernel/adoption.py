"""Finds the process of a kernel that an earlier daemon launched.

The handle in the record identifies the process. If the handle is missing or belongs to another
launch, the shim's facts and lock identify the process. If the daemon died before the kernel's first
answer, the record contains the decision to launch, but no facts about the process. These facts are
then read from the connection file and from the kernel spec. Whether the start is the trial of a
wire is derived from the wire in the connection file, so that the new daemon continues the trial.
"""

import logging
from dataclasses import dataclass, field, replace

from kconnd.core.kernel.events import Discovered, Event
from kconnd.core.kernel.lifecycle import LIVE, State
from kconnd.core.kernel.record import Facts, KernelRecord
from kconnd.core.kernel.recovery import recover
from kconnd.core.launch.capabilities import Software
from kconnd.core.launch.connection import ConnectionInfo
from kconnd.core.launch.kernelspec_file import KernelSpec
from kconnd.core.launch.wire import find_trial, trial_limit_s
from kconnd.core.profile.model import Profile
from kconnd.daemon.context import World
from kconnd.daemon.kernel.files import RuntimeFiles
from kconnd.daemon.kernel.observing import Attempt
from kconnd.daemon.kernel.wiring import warnings_about, wire_settings
from kconnd.errors import StartFailedError
from kconnd.launchers.base import Handle, parse_handle
from kconnd.system.launch_files import LaunchFiles, read_launch_files
from kconnd.system.process.processes import started_at

STARTING = frozenset({State.LAUNCHING, State.STARTING})  # no first answer is on record

log = logging.getLogger("kconnd")


@dataclass(frozen=True)
class Discovery:
    """The state of a kernel after a time without a daemon.

    Parameters
    ----------
    event : Event, optional
        The event to report to the actor. None if the record is correct, or if the supervision of
        ``handle`` will report the exit.
    handle : Handle, optional
        The process to supervise, which can be dead; None if there is no process.
    proof : str
        The evidence that identified the process; ``""`` if the process is dead.
    connection : ConnectionInfo, optional
        The connection info of the process.
    facts : Facts
        The known facts about the process.
    attempt : Attempt
        For a process whose first answer is not on record: the wire that its start tries.
    """

    event: Event | None
    handle: Handle | None = None
    proof: str = ""
    connection: ConnectionInfo | None = None
    facts: Facts = field(default_factory=Facts)
    attempt: Attempt = field(default_factory=Attempt)

    @property
    def is_new(self) -> bool:
        """Whether the process is alive and missing from the record."""
        return isinstance(self.event, Discovered)


async def discover(
    world: World, record: KernelRecord, files: RuntimeFiles, profile: Profile, *, forgotten: bool
) -> Discovery:
    """Find a kernel's process and decide which event describes its state.

    Parameters
    ----------
    record : KernelRecord
        The saved record of the kernel.
    files : RuntimeFiles
        The kernel's files, including the facts of its shim.
    profile : Profile
        The profile that the kernel was launched with.
    forgotten : bool
        Whether the record is lost or does not contain the process. The shim's files then describe
        the process.
    """
    origin, here = record.origin, world.store.origin
    handle = await _find_handle(world, record, files)
    proof = await world.launcher.adopt(handle) if handle else ""
    event = recover(
        record.lifecycle,
        launch=handle.generation if handle else None,
        alive=bool(proof),
        forgotten=forgotten,
        rebooted=origin is not None and origin.boot_id != here.boot_id,
    )
    if handle is None or not (isinstance(event, Discovered) or _is_on_record(record, handle)):
        return Discovery(event)
    connection, facts = record.connection, record.facts
    unsaved = record.lifecycle.state is State.LAUNCHING
    if isinstance(event, Discovered) or unsaved or connection is None:
        connection = files.read_connection() or connection
    if isinstance(event, Discovered):
        facts = Facts(started_at=_started_at(files, handle))
        return Discovery(event, handle, proof, connection, facts)
    if record.lifecycle.state not in STARTING:
        return Discovery(event, handle, proof, connection, facts)
    launch_files = await _read_files(world, record, profile)
    if unsaved:
        spec = launch_files.spec if launch_files else None
        facts = _restore_facts(_started_at(files, handle), profile, connection, spec)
    software = launch_files.software if launch_files else Software()
    attempt = _find_attempt(world, record, profile, software, connection)
    return Discovery(event, handle, proof, connection, facts, attempt)


async def _find_handle(world: World, record: KernelRecord, files: RuntimeFiles) -> Handle | None:
    """Find the kernel's process in this boot, by the record or by the shim's files."""
    handle = _recorded_handle(record)
    if handle is None or not _is_on_record(record, handle):
        facts, exit_file = files.paths.facts, files.paths.exit
        handle = await world.launcher.find(facts, exit_file, str(files.lock_to_search()))
    return handle if handle is not None and handle.boot_id == world.store.origin.boot_id else None


def _is_on_record(record: KernelRecord, handle: Handle) -> bool:
    kernel = record.lifecycle
    return kernel.state in LIVE and handle.generation == kernel.generation


def _recorded_handle(record: KernelRecord) -> Handle | None:
    """Parse a record's handle; a damaged handle counts as missing."""
    try:
        return parse_handle(dict(record.handle)) if record.handle else None
    except (KeyError, TypeError, ValueError) as error:
        log.warning("%s: the handle in its record: %r", record.name, error)
        return None


def _started_at(files: RuntimeFiles, handle: Handle) -> float:
    """Return the time of the kernel's launch, in seconds since the epoch.

    This is the time at which the shim wrote its facts. If this time is unknown, the start time of
    the process is returned, although the process of a forked kernel can be older than the launch.
    """
    return files.recorded_at() or started_at(handle.kernel)


async def _read_files(world: World, record: KernelRecord, profile: Profile) -> LaunchFiles | None:
    """Read the files of the profile again; None if they cannot be read."""
    try:
        return await read_launch_files(world, profile, world.program_hints(record))
    except (StartFailedError, OSError) as error:
        log.warning("%s: reading its kernel spec again: %s", record.name, error)
        return None


def _restore_facts(
    started: float, profile: Profile, connection: ConnectionInfo | None, spec: KernelSpec | None
) -> Facts:
    """Restore the facts about a process that has not answered and whose facts are not saved."""
    facts = Facts(started_at=started)
    if connection is not None:
        warnings = warnings_about(profile, connection)
        facts = replace(facts, kernel_name=connection.kernel_name, warnings=warnings)
    if spec is None:
        return facts
    return replace(
        facts,
        kernel_name=spec.name,
        language=spec.language,
        interrupt_mode=spec.interrupt_mode,
    )


def _find_attempt(
    world: World,
    record: KernelRecord,
    profile: Profile,
    software: Software,
    connection: ConnectionInfo | None,
) -> Attempt:
    """Derive the wire that a start tries from the connection and from what is known of the wire."""
    trial, facts = None, world.capabilities.facts(software)
    if connection is not None and not _keeps_wire(record, connection):
        trial = find_trial(
            wire_settings(profile),
            facts,
            connection.transport,
            encrypted=connection.curve is not None,
        )
    limit_s = trial_limit_s(facts, profile.startup_timeout) if trial else profile.startup_timeout
    return Attempt(software, trial, limit_s, is_adopted=True)


def _keeps_wire(record: KernelRecord, connection: ConnectionInfo) -> bool:
    """Return whether a launch may be a restart, which keeps the wire and is never a trial."""
    previous = record.connection
    return (
        record.lifecycle.proved
        and previous is not None
        and previous.transport == connection.transport
        and (previous.curve is None) == (connection.curve is None)
    )
