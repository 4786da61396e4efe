"""Ends a daemon whose uid went to another account: it would serve that as its owner.

Who has our uid is looked up when ``/etc/passwd`` changes, and once in a while, since not every
account is in that file. A uid without a name changes nothing: a directory server can be away.
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
    """Set ``ending`` once our uid has another name than the one we were started with."""
    directory = directory or UserDirectory()
    clock = asyncio.get_running_loop().time
    seen, looked_at = stamp_file(ACCOUNTS_FILE).marks, clock()
    while name:
        await asyncio.sleep(CHECK_INTERVAL_S)  # a poll: few machines have inotify to spare for each
        stamp = stamp_file(ACCOUNTS_FILE).marks
        if stamp == seen and clock() - looked_at < LOOKUP_INTERVAL_S:
            continue
        seen, looked_at = stamp, clock()
        try:
            now = (await directory.complete(Peer(os.geteuid(), os.getpid()))).name
        except KconndError:
            continue  # nobody can tell now
        if now and now != name:
            log.warning("uid %d was %s and is %s now: this daemon ends", os.geteuid(), name, now)
            ending.set()
            return
