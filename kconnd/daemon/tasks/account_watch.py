"""Ends the daemon when its uid is reassigned to another account.

A daemon that kept running would treat the new account as the owner of the kernels. The account name
of the uid is looked up after each change of ``/etc/passwd``, and also periodically, because some
accounts are not in this file. If the look-up finds no name, the daemon continues, because a
directory server may be down.
"""

import asyncio
import logging
import os

from kconnd.core.access import Peer
from kconnd.errors import KconndError
from kconnd.system.files.stamps import stamp_file
from kconnd.system.http.peer import UserDirectory

CHECK_INTERVAL_S = 5.0
LOOKUP_INTERVAL_S = 60.0
ACCOUNTS_FILE = "/etc/passwd"

log = logging.getLogger("kconnd")


async def end_with_account(
    name: str, ending: asyncio.Event, directory: UserDirectory | None = None
) -> None:
    """Set ``ending`` when the account name of the daemon's uid is no longer ``name``."""
    directory = directory or UserDirectory()
    clock = asyncio.get_running_loop().time
    last_stamp, looked_up_at = stamp_file(ACCOUNTS_FILE).marks, clock()
    while name:
        await asyncio.sleep(CHECK_INTERVAL_S)  # polled, because inotify instances are scarce
        stamp = stamp_file(ACCOUNTS_FILE).marks
        if stamp == last_stamp and clock() - looked_up_at < LOOKUP_INTERVAL_S:
            continue
        last_stamp, looked_up_at = stamp, clock()
        try:
            now = (await directory.complete(Peer(os.geteuid(), os.getpid()))).name
        except KconndError:
            continue  # the directory server does not answer now
        if now and now != name:
            log.warning(
                "the account of uid %d changed from %s to %s: this daemon exits",
                os.geteuid(),
                name,
                now,
            )
            ending.set()
            return
