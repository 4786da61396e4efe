"""How a warm kernel gets its name: which steps, in which order.

Rules. It is told its name, and its files take the places that the name gives them. The link by
which its shim finds its exit file and its logs turns before its lock does, and its facts come
last, as one rename. So at whichever step a daemon dies, either facts of a kernel without a name
are left, and it is ended with nobody's work in it, or facts of one that has its name, generation
and all, and it is adopted. Its first folder goes once it has learned its name: one that is left
with a link that has turned tells the next daemon to say it again.
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

LISTENING = 60.0  # seconds in which a kernel that does nothing learns its name, by far
NOTE = "it was kept warm"
KEPT = ("boot_id", "shim", "kernel", "generation", "launch", "note")

log = logging.getLogger("kconnd")


async def tell_name(world: World, channels: Channels, old: str, new: str) -> bool:
    """Have a kernel learn its name, and tell whether it did; once more does no harm."""
    before, after = world.warm_files(old), world.files(new)
    code = renaming_code(before.connection_file, new, after.connection_file)
    try:
        async with asyncio.timeout(LISTENING):
            return await channels.execute_silently(code)
    except TimeoutError:
        return False


async def note_learned(world: World, naming: Awaitable[bool], old: str, new: str) -> None:
    """Note that a kernel has learned its name, once it has; its files have their places then."""
    try:
        if await naming:
            remove_folder(Path(world.warm_files(old).first_folder))
        else:
            log.warning("%s: it did not learn its name; the next daemon says it again", new)
    except OSError as error:
        log.warning("%s: noting that it has learned its name: %s", new, error)


async def tell_again(world: World, old: str, new: str) -> None:
    """Do the same for a kernel whose daemon died before it had learned its name."""
    try:
        file = read_regular(world.files(new).connection_file, MAX_OWN_BYTES)
        channels = world.connect(parse_connection(json.loads(file)))
    except (OSError, ValueError) as error:
        log.warning("%s: telling it its name: %s", new, error)
        return
    try:
        await note_learned(world, tell_name(world, channels, old, new), old, new)
    finally:
        channels.close()


def hand_over(world: World, warm: WarmKernel, plan: LaunchPlan) -> Handle:
    """Give a kernel's files the places of its name; the connection file is there already.

    Raises
    ------
    OSError
        If a step fails; it has no name then.
    """
    handle = replace(
        warm.handle,
        generation=plan.generation,
        launch=warm.plan.generation,
        exit_file=plan.files.exit,
        lock=plan.files.lock,
        # Its shim goes on writing the spare exit file beside these, should the disk be full.
        facts=warm.plan.files.facts,
        note=NOTE,
    )
    _keep_ports(world, warm, plan)
    Path(warm.plan.files.connection_file).unlink(missing_ok=True)
    _shift(Path(plan.files.log), plan.log_keep)
    with contextlib.suppress(FileNotFoundError):
        Path(warm.plan.files.log).rename(plan.files.log)
    # Every warm kernel is its shim's first launch, so an older exit would pass for its own.
    Path(plan.files.exit).unlink(missing_ok=True)
    _turn(world.warm_files(warm.plan.name), Path(plan.files.folder))
    with contextlib.suppress(FileNotFoundError):  # the folder was cleaned: it proves nothing
        Path(warm.plan.files.lock).rename(plan.files.lock)
    facts, plain, here = Path(warm.plan.files.facts), handle.to_json(), world.store.origin
    where = {"host": here.host, "pid_namespace": here.pid_namespace}
    told = json.dumps({"protocol": 1, **where, **{key: plain[key] for key in KEPT}}).encode()
    write_private(facts, told)
    facts.rename(plan.files.facts)  # it has its name from here on
    _write_into_lock(Path(plan.files.lock), told + b"\n")
    return handle


def _write_into_lock(path: Path, told: bytes) -> None:
    """Have the locked file say which launch of its kernel it is; its shim has said all else.

    What comes after the first line is the shim's: room for how the kernel ends.
    """
    with contextlib.suppress(OSError):  # a full disk: the lock itself is what counts
        file = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.pwrite(file, told, 0)
        finally:
            os.close(file)


def named_by(files: WarmFiles) -> str:
    """Give the name of the kernel to whose folder a link leads; ``""`` where it has none yet."""
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
    """Have a link lead elsewhere, without a moment in which it leads nowhere.

    It is relative, so that it is right too where the state folder has been moved as a whole: that
    of an account which has gone is.
    """
    next_link = Path(files.next_link)
    next_link.symlink_to(os.path.relpath(folder, next_link.parent))
    next_link.rename(files.folder)


def _shift(path: Path, keep: int) -> None:
    """Make room for a log, as a shim does when it rotates its own."""
    if not path.exists():
        return
    for number in range(keep, 0, -1):
        older = path if number == 1 else Path(f"{path}.{number - 1}")
        if older.exists():
            older.rename(f"{path}.{number}")
    if keep == 0:
        path.unlink()
