"""``kconnd-front``: the front door's command. The one place that builds its objects.

It runs as root and is small: it tells who asks where the owner's daemon listens, after it had
systemd start it as that owner. It launches nothing itself and reads no user's files.
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
from kconnd.core.paths import BOOT, FRONT_SOCKET, LIMITS, SETTINGS, SYSTEM_CONFIGS
from kconnd.errors import KconndError
from kconnd.front.account_changes import Accounts
from kconnd.front.front_routes import ROUTES, Request
from kconnd.front.machine_config import Machine
from kconnd.front.memory_quota import Slices
from kconnd.front.owners import Owners, make_folder
from kconnd.front.setting_aside import hand_over, parse_uid, put_aside
from kconnd.system.files.account_files import AccountFiles
from kconnd.system.http.http_server import Site
from kconnd.system.systemd.journal import set_up_logging
from kconnd.system.systemd.notify import notify, passed_sockets, watchdog_interval
from kconnd.system.systemd.unit_control import Systemd

ROUND = 10.0  # seconds

log = logging.getLogger("kconnd")

DESCRIPTION = """\
Let every user of this machine reach their kconnd daemon, and start it where need be.

It is run by kconnd.service as root. SIGHUP reads the machine's profiles again, SIGTERM ends
it; neither touches a daemon or a kernel.
"""


def build_owners() -> Owners:
    """Build what all requests share."""
    for path in (BOOT, LIMITS):
        make_folder(Path(path))
    systemd = Systemd()
    machine = Machine(SYSTEM_CONFIGS, SETTINGS)
    files = AccountFiles()
    try:
        files.make_folders()
    except OSError as error:
        log.warning("whose each uid is cannot be written down: %s", error)
    accounts = Accounts(systemd, files)
    return Owners(systemd, Path(BOOT), machine, Slices(systemd, Path(LIMITS)), accounts)


async def serve() -> None:
    """Run until told to end."""
    ending, reloading = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ending.set)
    loop.add_signal_handler(signal.SIGHUP, reloading.set)
    owners = build_owners()
    site = Site(ROUTES, partial(Request, owners), owners.machine.settings.connections)
    for passed in passed_sockets(os.environ):
        site.take(passed)
    if not site.is_listening:
        site.listen(Path(FRONT_SOCKET), mode=0o666)
    await owners.accounts.settle_first()
    count = await owners.start_at_boot()
    log.info("ready: listening on %s, %d daemons started", site.address, count)
    notify(READY=1)
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(_feed_watchdog()),
            group.create_task(_report(owners)),
            group.create_task(_follow_settings(owners, site)),
            group.create_task(_reload_when(reloading, owners)),
            group.create_task(owners.accounts.watch()),
        ]
        await ending.wait()
        notify(STOPPING=1)
        for task in tasks:
            task.cancel()
    await site.close()
    await owners.systemd.close()


async def _reload_when(asked: asyncio.Event, owners: Owners) -> None:
    while True:
        await asked.wait()
        asked.clear()
        notify(RELOADING=1)
        owners.machine.reload()
        notify(READY=1)


async def _follow_settings(owners: Owners, site: Site) -> None:
    """Have what changes in the settings hold for those, too, who are here already."""
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
        await asyncio.sleep(ROUND)


async def _feed_watchdog() -> None:
    """Tell that the loop goes round, whatever those do that it waits for."""
    pause = min(ROUND, (watchdog_interval(os.environ) or math.inf) / 3)
    while True:
        notify(WATCHDOG=1)
        await asyncio.sleep(pause)


async def _report(owners: Owners) -> None:
    """Say how many daemons run."""
    while True:
        try:
            status = f"{len(await owners.active())} users have a daemon"
        except KconndError as error:
            status = error.message
        notify(STATUS=status)
        await asyncio.sleep(ROUND)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``kconnd-front``; see ``kconnd-front --help``."""
    parser = argparse.ArgumentParser(
        "kconnd-front",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"kconnd {kconnd.__version__}")
    parser.add_argument(
        "--put-aside",
        metavar="UID",
        help="put aside what is kept of an earlier account; kconnd-aside@UID.service runs this",
    )
    parser.add_argument(
        "--hand-over",
        metavar="UID",
        help="give the account of this uid what was put aside last, after 'usermod -l'",
    )
    given = parser.parse_args(arguments)
    if os.geteuid() != 0:
        print("kconnd-front: only root can start other users' daemons", file=sys.stderr)  # noqa: T201
        print("  run kconnd instead, which is a daemon of your own", file=sys.stderr)  # noqa: T201
        return 5
    set_up_logging("info")
    os.umask(0o077)
    try:
        if given.put_aside is not None:
            print(put_aside(parse_uid(given.put_aside), AccountFiles()))  # noqa: T201
        elif given.hand_over is not None:
            print(hand_over(parse_uid(given.hand_over), AccountFiles()))  # noqa: T201
        else:
            asyncio.run(serve())
    except KconndError as error:
        print(f"kconnd-front: {error.message}\n  {error.hint}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
