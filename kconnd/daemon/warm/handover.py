"""The hand-over: a warm kernel gets a name, and its files move to the paths of that name.

The order of the steps decides what a crash leaves behind. First the link through which the shim
finds its exit file and its logs is pointed at the kernel's folder, then the lock moves, and last
the facts, in one rename. A daemon that dies before that rename leaves the facts of a warm kernel:
the next daemon terminates it, and nobody's work is lost. A daemon that dies after it leaves the
facts of a named kernel with its generation, and the next daemon adopts it.

The kernel itself receives its name by a message. When it has replied, its first folder is removed.
If the first folder still exists although the link was changed, the next daemon sends the name
again.
"""

import asyncio
import contextlib
import json
import logging
import os
from collections.abc import Awaitable
from dataclasses import replace
from pathlib import Path

from kconnd.core.launch.connection import parse_connection
from kconnd.core.launch.kernel_files import WarmFiles
from kconnd.core.launch.plan import LaunchPlan
from kconnd.core.launch.warm import renaming_code
from kconnd.daemon.context import Channels, World
from kconnd.daemon.kernel.prepared import WarmKernel
from kconnd.daemon.warm.maker import remove_folder
from kconnd.launchers.base import Handle
from kconnd.system.files.private import write_private
from kconnd.system.files.regular import MAX_OWN_BYTES, read_regular

NAMING_TIMEOUT_S = 60.0  # an idle kernel replies within milliseconds
NOTE = "it was kept warm"
FACT_KEYS = ("boot_id", "shim", "kernel", "generation", "launch", "note")

log = logging.getLogger("kconnd")


async def send_name(world: World, channels: Channels, old: str, new: str) -> bool:
    """Send a kernel its name; return whether it has replied. Sending twice does no harm."""
    before, after = world.warm_files(old), world.files(new)
    code = renaming_code(before.connection_file, new, after.connection_file)
    try:
        async with asyncio.timeout(NAMING_TIMEOUT_S):
            return await channels.execute_silently(code)
    except TimeoutError:
        return False


async def confirm_name(world: World, naming: Awaitable[bool], old: str, new: str) -> None:
    """Wait until a kernel knows its name, then remove its first folder."""
    try:
        if await naming:
            remove_folder(Path(world.warm_files(old).first_folder))
        else:
            log.warning(
                "%s: it did not reply when it was sent its name; the next daemon sends it again",
                new,
            )
    except OSError as error:
        log.warning("%s: removing its first folder: %s", new, error)


async def resend_name(world: World, old: str, new: str) -> None:
    """Send a kernel its name again: its daemon died before it had replied."""
    try:
        file = read_regular(world.files(new).connection_file, MAX_OWN_BYTES)
        channels = world.connect(parse_connection(json.loads(file)))
    except (OSError, ValueError) as error:
        log.warning("%s: sending it its name: %s", new, error)
        return
    try:
        await confirm_name(world, send_name(world, channels, old, new), old, new)
    finally:
        channels.close()


def hand_over(world: World, warm: WarmKernel, plan: LaunchPlan) -> Handle:
    """Move a kernel's files to the paths of its name; the new connection file exists already.

    Raises
    ------
    OSError
        If a step fails; the kernel stays without a name.
    """
    handle = replace(
        warm.handle,
        generation=plan.generation,
        launch=warm.plan.generation,
        exit_file=plan.files.exit,
        lock=plan.files.lock,
        # On a full disk its shim still writes the spare exit file beside these.
        facts=warm.plan.files.facts,
        note=NOTE,
    )
    _keep_ports(world, warm, plan)
    Path(warm.plan.files.connection_file).unlink(missing_ok=True)
    _shift(Path(plan.files.log), plan.log_keep)
    with contextlib.suppress(FileNotFoundError):
        Path(warm.plan.files.log).rename(plan.files.log)
    # Each warm kernel is its shim's first launch, so an older exit file would pass for its own.
    Path(plan.files.exit).unlink(missing_ok=True)
    _turn(world.warm_files(warm.plan.name), Path(plan.files.folder))
    # A user may have removed the lock; the kernel runs on without it.
    with contextlib.suppress(FileNotFoundError):
        Path(warm.plan.files.lock).rename(plan.files.lock)
    facts, plain, here = Path(warm.plan.files.facts), handle.to_json(), world.store.origin
    where = {"host": here.host, "pid_namespace": here.pid_namespace}
    content = {"protocol": 1, **where, **{key: plain[key] for key in FACT_KEYS}}
    serialized = json.dumps(content).encode()
    write_private(facts, serialized)
    facts.rename(plan.files.facts)  # from here on the kernel has its name
    _write_into_lock(Path(plan.files.lock), serialized + b"\n")
    return handle


def _write_into_lock(path: Path, facts: bytes) -> None:
    """Write the facts into the first line of the locked file.

    The bytes after that line belong to the shim, which reserves them for the kernel's end.
    """
    with contextlib.suppress(OSError):  # on a full disk; the lock holds without its content
        file = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.pwrite(file, facts, 0)
        finally:
            os.close(file)


def named_by(files: WarmFiles) -> str:
    """Return the name of the kernel to whose folder a link leads; ``""`` before the hand-over."""
    try:
        target = Path(files.folder).readlink()
    except OSError:
        return ""
    return "" if target.name == Path(files.first_folder).name else target.name


def _keep_ports(world: World, warm: WarmKernel, plan: LaunchPlan) -> None:
    connection = warm.wire.connection
    if connection.transport == "tcp":
        world.ledger.release(warm.plan.name)
        world.ledger.keep(plan.name, connection.ports)


def _turn(files: WarmFiles, folder: Path) -> None:
    """Point a link at another folder, atomically.

    The link is relative, so it stays valid when the whole state folder is moved, as happens when an
    account is deleted.
    """
    next_link = Path(files.next_link)
    next_link.symlink_to(os.path.relpath(folder, next_link.parent))
    next_link.rename(files.folder)


def _shift(path: Path, keep: int) -> None:
    """Rotate the logs of a kernel, as a shim does with its own."""
    if not path.exists():
        return
    for number in range(keep, 0, -1):
        older = path if number == 1 else Path(f"{path}.{number - 1}")
        if older.exists():
            older.rename(f"{path}.{number}")
    if keep == 0:
        path.unlink()
