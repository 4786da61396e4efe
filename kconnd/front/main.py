"""The command ``kconnd-front``: the front door, a small server that runs as root.

A client asks the front door for the socket of an owner's daemon. If necessary, the front door lets
systemd start the daemon as the owner. The front door then returns the path of the socket. The front
door does not launch processes itself and does not read files of users. This module builds all
objects.
"""

import argparse
import asyncio
import logging
import math
import os
import signal
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import kconnd
from kconnd.core.paths import (
    BOOT_DIR,
    FRONT_SOCKET,
    LIMITS_DIR,
    SETTINGS_FILE,
    SHARING_DIR,
    SYSTEM_CONFIGS_DIR,
)
from kconnd.errors import KconndError, RefusedError
from kconnd.front.account_changes import Accounts
from kconnd.front.front_routes import ROUTES, FrontRequest
from kconnd.front.machine_config import MachineConfig
from kconnd.front.marks import Marks, make_folder
from kconnd.front.memory_quota import Slices
from kconnd.front.owners import Owners
from kconnd.front.setting_aside import hand_over, parse_uid, put_aside
from kconnd.system.files.account_files import AccountFiles
from kconnd.system.http.http_server import Site
from kconnd.system.systemd.journal import set_up_logging
from kconnd.system.systemd.notify import notify, passed_sockets, watchdog_interval
from kconnd.system.systemd.unit_control import Systemd

POLL_INTERVAL_S = 10.0  # for checks of the settings, and for the status line
PROFILES_INTERVAL_S = 2.0

log = logging.getLogger("kconnd")

DESCRIPTION = """\
Let every user of this machine reach their own kconnd daemon, and start it when needed.

kconnd.service runs this command as root. SIGHUP reloads the machine's profiles and settings;
SIGTERM stops the front door. Neither stops a daemon or a kernel.
"""


def build_owners() -> Owners:
    """Build the objects that all requests share."""
    for path in (BOOT_DIR, SHARING_DIR, LIMITS_DIR):
        make_folder(Path(path))
    systemd = Systemd()
    machine = MachineConfig(SYSTEM_CONFIGS_DIR, SETTINGS_FILE)
    files = AccountFiles()
    try:
        files.make_folders()
    except OSError as error:
        log.warning("making the folders that record the account of each uid: %s", error)
    accounts = Accounts(systemd, files)
    boot, sharing = Marks(Path(BOOT_DIR)), Marks(Path(SHARING_DIR))
    return Owners(systemd, boot, sharing, machine, Slices(systemd, Path(LIMITS_DIR)), accounts)


async def serve(owners: Owners, socket: Path = Path(FRONT_SOCKET)) -> None:
    """Serve until SIGTERM or SIGINT.

    Parameters
    ----------
    owners : Owners
        The users to serve.
    socket : Path
        The path of the socket to listen on; ignored if systemd has passed a socket.
    """
    stopping, reloading = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    loop.add_signal_handler(signal.SIGHUP, reloading.set)
    site = Site(ROUTES, partial(FrontRequest, owners), owners.machine.settings.connections)
    for listener in passed_sockets(os.environ):
        site.listen_on(listener)
    if not site.is_listening:
        site.listen(socket, mode=0o666)
    await owners.accounts.settle_at_start()
    count = await owners.start_at_boot()
    log.info("ready: listening on %s; started %d daemons", site.address, count)
    notify(READY=1)
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(_feed_watchdog()),
            group.create_task(_report_status(owners)),
            group.create_task(_apply_settings(owners, site)),
            group.create_task(_reload_on(reloading, owners)),
            group.create_task(_follow_profiles(owners)),
            group.create_task(owners.accounts.watch()),
        ]
        await stopping.wait()
        notify(STOPPING=1)
        for task in tasks:
            task.cancel()
    await site.close()
    await owners.systemd.close()


async def _reload_on(requested: asyncio.Event, owners: Owners) -> None:
    while True:
        await requested.wait()
        requested.clear()
        notify(RELOADING=1)
        owners.machine.reload()
        await _start_for_new_profiles(owners)
        notify(READY=1)


async def _follow_profiles(owners: Owners) -> None:
    """Start daemons for profiles that are dropped into the machine's folder."""
    while True:
        await asyncio.sleep(PROFILES_INTERVAL_S)  # polled, as a stat of one folder costs nothing
        await _start_for_new_profiles(owners)


async def _start_for_new_profiles(owners: Owners) -> None:
    try:
        await owners.start_for_new_profiles()
    except KconndError as error:
        log.warning("starting daemons for new profiles: %s", error)


async def _apply_settings(owners: Owners, site: Site) -> None:
    """Apply the present settings to the active slices and to the server."""
    applied = None
    while True:
        settings = owners.machine.settings
        site.server.max_connections = settings.connections
        if settings != applied:
            try:
                await owners.limit_memory()
                applied = settings
            except KconndError as error:
                log.warning("limiting the memory of users: %s", error)
        await asyncio.sleep(POLL_INTERVAL_S)


async def _feed_watchdog() -> None:
    """Notify systemd's watchdog that the event loop runs, even while requests wait."""
    pause = min(POLL_INTERVAL_S, (watchdog_interval(os.environ) or math.inf) / 3)
    while True:
        notify(WATCHDOG=1)
        await asyncio.sleep(pause)


async def _report_status(owners: Owners) -> None:
    """Report the number of running daemons in the status line of the unit."""
    while True:
        try:
            status = f"{len(await owners.active_uids())} users have a daemon"
        except KconndError as error:
            status = error.message
        notify(STATUS=status)
        await asyncio.sleep(POLL_INTERVAL_S)


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    parser = argparse.ArgumentParser(
        "kconnd-front",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"kconnd {kconnd.__version__}")
    parser.add_argument(
        "--put-aside",
        metavar="UID",
        help="put aside the files of an earlier account of this uid; "
        "kconnd-aside@UID.service runs this",
    )
    parser.add_argument(
        "--hand-over",
        metavar="UID",
        help="give a renamed account (usermod -l) the files back that were put aside last",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``kconnd-front``; see ``kconnd-front --help``."""
    options = build_parser().parse_args(arguments)
    if os.geteuid() != 0:
        print("kconnd-front: only root can start the daemons of other users", file=sys.stderr)
        print("  to run a daemon of your own, run kconnd", file=sys.stderr)
        return RefusedError.exit_code
    set_up_logging("info")
    os.umask(0o077)
    try:
        if options.put_aside is not None:
            print(put_aside(parse_uid(options.put_aside), AccountFiles()))
        elif options.hand_over is not None:
            print(hand_over(parse_uid(options.hand_over), AccountFiles()))
        else:
            asyncio.run(serve(build_owners()))
    except KconndError as error:
        print(f"kconnd-front: {error.message}\n  {error.hint}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
