"""Terminates the warm kernels that a killed daemon left behind; nobody has used them.

The kernels of an aborted probe are terminated in the same way, because they have names of the same
form.

A kernel that was handed over may contain a user's work, so it is not terminated. The shim of such a
kernel writes the exit file and the logs through a link, which is kept as long as the shim may be
alive. The process of a warm kernel is found by the shim's facts, or else by the shim's command
line. The daemon starts even if a process does not exit or the disk is not writable.
"""

import asyncio
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kconnd.core.kernel.events import Step
from kconnd.core.kernel.locality import Lock
from kconnd.core.launch.kernel_files import (
    IPC_PORTS,
    KernelFiles,
    WarmFiles,
    live_dir,
    socket_prefix,
    warm_kernel_of,
)
from kconnd.daemon.context import World
from kconnd.daemon.kernel.claims import is_held, is_held_elsewhere
from kconnd.daemon.warm.handover import named_by
from kconnd.daemon.warm.maker import Maker
from kconnd.errors import UsageError
from kconnd.launchers.base import Handle, parse_handle
from kconnd.system.files.kernel_lock import probe_lock
from kconnd.system.files.regular import MAX_OWN_BYTES, read_regular
from kconnd.system.process.find_shim import find_shim
from kconnd.system.process.processes import boot_id, descendants, is_alive, shares_host_name

SWEEP_TIMEOUT_S = 1.0  # after this time, the daemon starts while processes are still terminated

log = logging.getLogger("kconnd")


@dataclass(frozen=True)
class HandedOver:
    """A warm kernel that a killed daemon had handed over.

    Parameters
    ----------
    old, name : str
        The names of the kernel before and after the hand-over.
    handle : Handle, optional
        The live process; None if no process was found.
    knows_name : bool
        Whether the kernel has confirmed its name.
    """

    old: str
    name: str
    handle: Handle | None
    knows_name: bool


async def sweep(world: World, maker: Maker) -> list[HandedOver]:
    """Begin to terminate warm kernels without a name; return the kernels that were handed over."""
    handed_over = []
    ending = []
    for old in set(_names(world)):
        files = world.warm_files(old)
        name = named_by(files)
        if not name or Path(files.facts).exists():  # noqa: ASYNC240  # short
            # There was no hand-over, or its last step is missing.
            ending.append(maker.spawn(_end(world, maker, old)))
            continue
        handle = _live_handle(world, name)
        if handle is None and not _may_live(world, name):
            maker.forget(old)
        else:
            knows_name = not Path(files.first_folder).exists()  # noqa: ASYNC240  # short
            handed_over.append(HandedOver(old, name, handle, knows_name))
    if ending:
        await asyncio.wait(ending, timeout=SWEEP_TIMEOUT_S)
    return handed_over


def _names(world: World) -> Iterator[str]:
    live = Path(live_dir(str(world.runtime_dir)))
    files = [*_files(live), *_files(world.store.warm)]
    try:
        files += world.ledger.granted()
    except OSError as error:
        log.warning("reading which ports are granted: %s", error)
    for file in files:
        if name := warm_kernel_of(file):
            yield name


def _files(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()] if folder.is_dir() else []


def _live_handle(world: World, name: str) -> Handle | None:
    """Return the live process that a kernel's facts or record names; None if there is none."""
    files = world.files(name)
    facts, record = _read(files.facts), _read(files.record)
    for handle in map(_handle, (facts, record.get("handle") or {})):
        here = handle is not None and handle.boot_id == world.store.origin.boot_id
        if handle is not None and here and is_alive(handle.shim):
            return handle
    return None


def _may_live(world: World, name: str) -> bool:
    """Return whether a kernel may be alive: its lock is held, or another machine owns it."""
    machine = world.store.origin.machine
    origin = _read(world.files(name).record).get("origin") or {}
    return is_held(world, name) or origin.get("machine", machine) != machine


def _read(path: str) -> dict[str, Any]:
    try:
        content = json.loads(read_regular(path, MAX_OWN_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _handle(content: dict[str, Any]) -> Handle | None:
    try:
        return parse_handle({"launcher": "", "exit_file": "", "lock": "", **content})
    except (KeyError, TypeError, ValueError):
        return None


async def _end(world: World, maker: Maker, name: str) -> None:
    files = world.warm_files(name)
    if is_held_elsewhere(world, Path(files.lock)):
        log.warning(
            "%s: a process of another machine or container holds its lock; it is not stopped", name
        )
        return
    handle = None
    if not Path(files.facts).exists():  # noqa: ASYNC240  # short
        handle = _by_command_line(name, files)
    handle = handle or await world.launcher.find(files.facts, files.exit, files.lock)
    if handle is not None and await world.launcher.adopt(handle):
        log.info("%s: terminated, since the daemon that started it was killed", name)
        await world.launcher.stop(handle, Step.KILL)
        await world.launcher.wait(handle)
    elif probe_lock(Path(files.lock)) is Lock.HELD:
        log.warning("%s: a process that cannot be found holds its lock; it is not stopped", name)
        return
    maker.forget(name, _own_sockets(world, files))


def _own_sockets(world: World, files: WarmFiles) -> list[str]:
    """List the sockets of a warm kernel; leave out sockets that a named kernel uses."""
    if not Path(files.folder).is_symlink():
        return []
    try:
        prefix = socket_prefix(str(world.runtime_dir), files.name)
    except UsageError:
        return []
    named = named_by(files)
    connection = _read(world.files(named).record).get("connection") if named else None
    if connection and connection.get("ip") == prefix:
        return []
    # Some kernels wrongly write `:` for `-`.
    return [f"{prefix}{separator}{port}" for separator in "-:" for port in IPC_PORTS]


def _by_command_line(name: str, files: KernelFiles) -> Handle | None:
    """Find the process of a warm kernel without facts, by the command line of the shim."""
    shim = find_shim(name)
    if shim is not None and not shares_host_name(shim):
        return None  # the process belongs to a container whose pids are visible here
    below = descendants(shim) if shim is not None else []
    if shim is None or not below:
        return None  # a shim without a plan exits by itself
    return Handle("", 1, boot_id(), shim, below[0], files.exit, files.lock)
