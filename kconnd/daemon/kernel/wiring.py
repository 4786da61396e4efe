"""Chooses how a kernel is connected: its wire, its ports and its keys.

`kconnd.core.launch.wire` chooses the wire: the transport, and whether the connection is encrypted.
This module grants ports and creates keys. It also waits for ports that the kernel's previous
process may still hold.
"""

import asyncio
import contextlib
import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass, replace

from kconnd.core.kernel.events import Launch
from kconnd.core.launch.capabilities import CURVE, Capabilities
from kconnd.core.launch.connection import ConnectionInfo
from kconnd.core.launch.containers import Place
from kconnd.core.launch.kernel_files import IPC_PORTS, ipc_dir, prefix_in, socket_prefix
from kconnd.core.launch.plan import PLAIN_HINT, warn_about
from kconnd.core.launch.wire import (
    Attempts,
    Trial,
    WireChoice,
    WireSettings,
    choose_wire,
    trial_limit_s,
)
from kconnd.core.profile.model import Profile
from kconnd.core.profile.policy import is_shared, needs_tcp
from kconnd.daemon.context import World
from kconnd.errors import StartFailedError
from kconnd.system.keys import new_curve_keys, new_key
from kconnd.system.launch_files import LaunchFiles
from kconnd.system.ledger import fixed_ports_taken, is_free

PORTS_TIMEOUT_S = 2.0  # the time that a restart waits for the kernel's own ports
PORTS_POLL_S = 0.05  # there is no event for a port that becomes free


@dataclass(frozen=True)
class Wire:
    """The connection of the next process, and messages about the connection for the user.

    Parameters
    ----------
    connection : ConnectionInfo
        The addresses and keys.
    notes, warnings : tuple of str
        The messages about this launch, and the messages about the connection.
    trial : Trial, optional
        The wire that the start tries; None if the kernel is known to support the wire.
    trial_limit_s : float
        The time limit of the trial, in seconds.
    """

    connection: ConnectionInfo
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    trial: Trial | None = None
    trial_limit_s: float = 0.0


@dataclass(frozen=True)
class Previous:
    """The connection of a kernel's previous process.

    Parameters
    ----------
    connection : ConnectionInfo
        The connection. A restart keeps its key, and its ports or the paths of its sockets.
    same_wire : bool
        Whether a restart also keeps the wire. This is so if the kernel has answered on this wire,
        and the profile's settings that decide about the wire are unchanged.
    """

    connection: ConnectionInfo
    same_wire: bool = True


def wire_settings(profile: Profile) -> WireSettings:
    """Return the settings of a profile that decide about the wire."""
    needs_privacy = is_shared(profile) and profile.encryption != "none"
    return WireSettings(profile.transport, profile.encryption, needs_tcp(profile), needs_privacy)


async def prepare_wire(
    world: World,
    name: str,
    profile: Profile,
    files: LaunchFiles,
    command: Launch,
    previous: Previous | None = None,
    attempts: Attempts = Attempts.ALL,
) -> Wire:
    """Choose a kernel's wire, ports and keys; keep the previous values if possible.

    Parameters
    ----------
    command : Launch
        The command of the actor. It states whether to create a new key and whether to choose new
        ports, which is necessary if another program uses the old ports.
    previous : Previous, optional
        The previous connection, whose values are kept if possible.
    attempts : Attempts
        The wires that the start may try.

    Raises
    ------
    PortsTakenError
        If no ports in the profile's range are free.
    StartFailedError
        If the profile lets other users connect, and every user of the machine could read the
        traffic.
    """
    facts, place = world.capabilities.facts(files.software), files.place
    choice = _choose(
        _settings_for(profile, place),
        facts,
        Attempts.KNOWN if command.fallback else attempts,
        None if command.fallback or not _fits(previous, place) else previous,
    )
    if choice.transport == "tcp" and not choice.encrypted:
        _check_privacy(name, profile, facts)
    old = previous.connection if previous else None
    kept = old if old and old.transport == choice.transport else None
    notes: tuple[str, ...] = ()
    ports: tuple[int, ...] = IPC_PORTS
    if choice.transport == "ipc":
        ip = _choose_prefix(world, name, kept, place)
    else:
        ip = profile.ip
        old_ports = kept.ports if kept and kept.ip == ip and not command.new_ports else None
        ports = await _choose_ports(world, name, profile, old_ports)
        if kept and kept.ports != ports:
            notes = (f"its ports changed from {kept.ports} to {ports}",)
    secret = None if command.new_key else old
    curve = None
    if choice.encrypted:
        curve = (secret.curve if secret else None) or new_curve_keys()
    connection = ConnectionInfo(
        transport=choice.transport,
        ip=ip,
        ports=ports,
        key=secret.key if secret else new_key(),
        kernel_name=files.spec.name,
        curve=curve,
    )
    limit_s = trial_limit_s(facts, profile.startup_timeout)
    warnings = warnings_about(profile, connection)
    return Wire(connection, notes, warnings, choice.trial, limit_s)


def _settings_for(profile: Profile, place: Place) -> WireSettings:
    """Return the settings that decide about the wire of a kernel with a place of its own."""
    settings = wire_settings(profile)
    if settings.transport != "auto" or not place.transport or settings.needs_tcp:
        return settings
    if place.transport == "tcp":
        return replace(settings, needs_tcp=True)
    return replace(settings, transport=place.transport)


def _fits(previous: Previous | None, place: Place) -> bool:
    """Return whether the container of a kernel still permits the previous transport."""
    return previous is not None and place.transport in {"", previous.connection.transport}


@contextlib.contextmanager
def release_on_failure(world: World, name: str) -> Iterator[None]:
    """Release the ports of a kernel if the preparation of its launch fails.

    A kernel without a name needs this, because nothing else knows its ports.
    """
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):  # the cause of the failure is more important
            world.ledger.release(name)
        raise


def _choose(
    settings: WireSettings, facts: Capabilities, attempts: Attempts, previous: Previous | None
) -> WireChoice:
    if previous is not None and previous.same_wire:
        connection = previous.connection
        return WireChoice(connection.transport, encrypted=connection.curve is not None)
    return choose_wire(settings, facts, attempts)


def _choose_prefix(world: World, name: str, kept: ConnectionInfo | None, place: Place) -> str:
    """Choose the common prefix of the paths of a kernel's sockets."""
    if place.folder:
        if kept is not None and kept.ip.startswith(f"{place.folder}/"):
            return kept.ip
        hint = "set 'connection_folder' in the profile to a folder with a shorter path"
        return prefix_in(place.folder, name, inside=place.inside, hint=hint)
    runtime = str(world.runtime_dir)
    if kept is not None and kept.ip.startswith(f"{ipc_dir(runtime)}/"):
        return kept.ip
    return socket_prefix(runtime, name)


def warnings_about(profile: Profile, connection: ConnectionInfo) -> tuple[str, ...]:
    """Return warnings about who can read a connection, and about who cannot reach it."""
    address = ipaddress.ip_address(profile.ip)
    return warn_about(
        connection.transport,
        encrypted=connection.curve is not None,
        loopback=address.is_loopback,
        ipv6=connection.transport == "tcp" and address.version == 6,  # noqa: PLR2004  # it is its name
    )


def _check_privacy(name: str, profile: Profile, facts: Capabilities) -> None:
    """Refuse an unencrypted shared kernel unless its profile says ``encryption: none``."""
    if is_shared(profile) and profile.encryption != "none":
        evidence = f" ({facts[CURVE].evidence})" if CURVE in facts else ""
        raise StartFailedError(
            f"starting {name}: other users may connect, the kernel has no encryption{evidence}, "
            "and every user of the machine could read its output on plain tcp",
            hint=PLAIN_HINT,
        )


async def _choose_ports(
    world: World, name: str, profile: Profile, old: tuple[int, ...] | None
) -> tuple[int, ...]:
    preferred = profile.ports.fixed or old
    if (
        preferred
        and await _become_free(profile.ip, preferred)
        and world.ledger.keep(name, preferred)
    ):
        return preferred
    if profile.ports.fixed:
        raise fixed_ports_taken(profile.ip, profile.ports.fixed)
    first, last = (profile.ports.first, profile.ports.last) if profile.ports.last else world.ports
    return world.ledger.grant(name, profile.ip, first, last)


async def _become_free(ip: str, ports: tuple[int, ...]) -> bool:
    """Wait until ports are free; return False if the wait times out.

    The kernel's previous process may still hold the ports.
    """
    try:
        async with asyncio.timeout(PORTS_TIMEOUT_S):
            while not all(is_free(ip, port) for port in ports):  # noqa: ASYNC110  # no event reports it
                await asyncio.sleep(PORTS_POLL_S)
    except TimeoutError:
        return False
    return True
