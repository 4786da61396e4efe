"""The hand-over: a warm kernel gets a name, and its files are moved to the paths of this name.

The shim writes its exit file and its logs through a link to the kernel's folder. The daemon may
crash at any time during the hand-over. Three steps of the hand-over therefore have a fixed order.
First, the link is changed to point to the folder of the named kernel. Second, the lock file is
moved. Last, the facts file is moved by one rename. If the daemon dies before this rename, the facts
belong to a warm kernel. The next daemon terminates the warm kernel, and no work is lost. If the
daemon dies after the rename, the facts belong to the named kernel and contain its generation. The
next daemon adopts the named kernel.

The kernel was started with the path of a connection file that contains no name. At this path, a
link to the connection file of the name remains until the kernel exits.

The daemon sends the name to the kernel in a message, as code in the kernel's language. After the
kernel's reply, the folder that the kernel had before the hand-over (its first folder) is removed.
If the daemon dies before the reply, the first folder still exists, and the next daemon therefore
sends the name again.
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
from kconnd.core.launch.naming import renaming_code
from kconnd.core.launch.notebook import NO_NOTEBOOK, Notebook
from kconnd.core.launch.plan import LaunchPlan
from kconnd.core.profile.model import follows_notebook
from kconnd.core.profile.parse import parse_profile
from kconnd.daemon.context import Channels, World
from kconnd.daemon.kernel.prepared import WarmKernel
from kconnd.daemon.warm.maker import remove_folder
from kconnd.daemon.warm.reading import language_of
from kconnd.errors import StateFileError
from kconnd.launchers.base import Handle
from kconnd.system.files.private import write_private
from kconnd.system.files.regular import MAX_OWN_BYTES, read_regular

NAMING_TIMEOUT_S = 60.0  # an idle kernel replies within milliseconds
NOTE = "it was kept warm"
FACT_KEYS = ("boot_id", "shim", "kernel", "generation", "launch", "note")

log = logging.getLogger("kconnd")


async def send_name(
    world: World,
    channels: Channels,
    language: str,
    old: str,
    new: str,
    notebook: Notebook = NO_NOTEBOOK,
) -> bool:
    """Send the name and the notebook to a kernel; return whether it has confirmed them.

    The name can be sent again without harm. A kernel of a language without code for this needs no
    name (`kconnd.core.launch.naming`).
    """
    before, after = world.warm_files(old), world.files(new)
    code = renaming_code(language, before.connection_file, new, after.connection_file, notebook)
    if not code:
        return True
    try:
        async with asyncio.timeout(NAMING_TIMEOUT_S):
            return await channels.execute_silently(code)
    except TimeoutError:
        return False


async def confirm_name(world: World, naming: Awaitable[bool], old: str, new: str) -> None:
    """Wait until a kernel confirms its name; then remove the folder it had as a warm kernel."""
    try:
        if await naming:
            remove_folder(Path(world.warm_files(old).first_folder))
        else:
            log.warning(
                "%s: it did not confirm its name; the next daemon sends the name again",
                new,
            )
    except OSError as error:
        log.warning("%s: removing its first folder: %s", new, error)


async def resend_name(world: World, old: str, new: str) -> None:
    """Send the name to a kernel again, because an earlier daemon died before the reply."""
    try:
        file = read_regular(world.files(new).connection_file, MAX_OWN_BYTES)
        channels = world.connect(parse_connection(json.loads(file)))
    except (OSError, ValueError) as error:
        log.warning("%s: sending the name to the kernel: %s", new, error)
        return

    async def ask_and_send() -> bool:
        try:
            async with asyncio.timeout(NAMING_TIMEOUT_S):
                language = language_of(await channels.kernel_info())
        except TimeoutError:
            return False
        notebook = _recorded_notebook(world, new)
        return await send_name(world, channels, language, old, new, notebook)

    try:
        await confirm_name(world, ask_and_send(), old, new)
    finally:
        channels.close()


def _recorded_notebook(world: World, name: str) -> Notebook:
    """Return the notebook of a kernel; it has no folder unless the kernel starts there."""
    try:
        record = world.store.read(name)
    except StateFileError:  # the start-up of the daemon reports it
        return NO_NOTEBOOK
    notebook = record.notebook or NO_NOTEBOOK
    profile, _ = parse_profile(record.profile or {}, name=name)
    is_in_folder = profile is not None and follows_notebook(profile)
    return notebook if is_in_folder else replace(notebook, folder="")


def hand_over(world: World, warm: WarmKernel, plan: LaunchPlan) -> Handle:
    """Move a warm kernel's files to the paths of the name in ``plan``.

    The caller has already written the connection file of this name.

    Raises
    ------
    OSError
        If a step fails. The kernel then has no name.
    """
    handle = replace(
        warm.handle,
        generation=plan.generation,
        launch=warm.plan.generation,
        exit_file=plan.files.exit,
        lock=plan.files.lock,
        # This is the shim's own facts path: on a full disk, the shim writes the exit status beside
        # it.
        facts=warm.plan.files.facts,
        note=NOTE,
    )
    _keep_ports(world, warm, plan)
    _link_connection_file(warm.plan.files.connection_file, plan.files.connection_file)
    _shift(Path(plan.files.log), plan.log_keep)
    with contextlib.suppress(FileNotFoundError):
        Path(warm.plan.files.log).rename(plan.files.log)
    # An older exit file at the new path is removed, because it would be read as that of this
    # process.
    Path(plan.files.exit).unlink(missing_ok=True)
    _turn(world.warm_files(warm.plan.name), Path(plan.files.folder))
    # A missing lock file is ignored: a user may have removed it, and the kernel runs without it.
    with contextlib.suppress(FileNotFoundError):
        Path(warm.plan.files.lock).rename(plan.files.lock)
    facts, plain, here = Path(warm.plan.files.facts), handle.to_json(), world.store.origin
    where = {"host": here.host, "pid_namespace": here.pid_namespace}
    content = {"protocol": 1, **where, **{key: plain[key] for key in FACT_KEYS}}
    serialized = json.dumps(content).encode()
    write_private(facts, serialized)
    facts.rename(plan.files.facts)  # after this rename, the kernel has its name
    _write_into_lock(Path(plan.files.lock), serialized + b"\n")
    return handle


def _write_into_lock(path: Path, facts: bytes) -> None:
    """Write the facts to the first line of the lock file.

    The shim reserves the bytes after this line for the kernel's exit status.
    """
    with contextlib.suppress(OSError):  # the disk is full; the lock is valid without its content
        file = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.pwrite(file, facts, 0)
        finally:
            os.close(file)


def named_by(files: WarmFiles) -> str:
    """Read a kernel's name from the target of its link; ``""`` before the hand-over."""
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


def _link_connection_file(old: str, new: str) -> None:
    """Replace the kernel's first connection file by a link to the file of its name.

    The kernel was started with the path of its first connection file, and may use it at any time.
    """
    link = Path(old)
    link.unlink(missing_ok=True)
    link.symlink_to(os.path.relpath(new, link.parent))


def _turn(files: WarmFiles, folder: Path) -> None:
    """Change the target of a warm kernel's link atomically.

    The link is relative. It therefore stays valid when the state folder of a deleted account is
    moved.
    """
    next_link = Path(files.next_link)
    next_link.symlink_to(os.path.relpath(folder, next_link.parent))
    next_link.rename(files.folder)


def _shift(path: Path, keep: int) -> None:
    """Rotate the logs of a kernel as a shim rotates them."""
    if not path.exists():
        return
    for number in range(keep, 0, -1):
        older = path if number == 1 else Path(f"{path}.{number - 1}")
        if older.exists():
            older.rename(f"{path}.{number}")
    if keep == 0:
        path.unlink()
