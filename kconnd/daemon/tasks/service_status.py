"""What the daemon tells the service manager, and when it ends because nothing needs it.

The watchdog is fed from the loop itself, so a loop that hangs is noticed. A daemon that was
started by its socket may end when no kernel lives: the next client starts it again.
"""

import asyncio
import logging
import math
import os
from pathlib import Path

from kconnd.client import Client
from kconnd.core.kernel.lifecycle import LIVE, State
from kconnd.daemon.kernels import Kernels
from kconnd.errors import KconndError
from kconnd.system.http.http_server import Site
from kconnd.system.systemd.notify import notify, watchdog_interval

ROUND = 5.0  # seconds at the most

log = logging.getLogger("kconnd")


async def report_for_ever(
    kernels: Kernels, site: Site, exit_idle: float, ending: asyncio.Event
) -> None:
    """Tell how things are, and end where nothing has been needed for ``exit_idle`` seconds."""
    clock = kernels.world.clock
    pause = min(ROUND, exit_idle / 4, (watchdog_interval(os.environ) or math.inf) / 3)
    needed_at = clock()
    while True:
        states = [actor.kernel.state for actor in kernels.all()]
        live = sum(state in LIVE or state is State.BACKOFF for state in states)
        notify(WATCHDOG=1, STATUS=f"{live} of {len(states)} kernels are up")
        kept = kernels.pool is not None and kernels.pool.ready
        if live or kept or site.connections:
            needed_at = clock()
        if clock() - needed_at >= exit_idle:
            log.info("no kernel lives and nobody has asked for %g s", exit_idle)
            ending.set()
        await asyncio.sleep(pause)  # the watchdog wants to hear so often, whatever happens


async def tell_front_for_ever(kernels: Kernels, front: Path | None) -> None:
    """Have the front door start this daemon with the machine, if it has kernels for that."""
    told: bool | None = None
    trouble = ""
    while front is not None:
        wanted = any(
            one.profile.start == "boot" for one in kernels.catalog.loaded.profiles.values()
        )
        if wanted is not told:
            try:
                post = Client(str(front)).post
                await asyncio.to_thread(post, "/v1/boot", {"wanted": wanted})
                told, trouble = wanted, ""
            except KconndError as error:
                if error.message != trouble:  # it may be refused for as long as this daemon lives
                    log.warning("telling the front door: %s", error.message)
                trouble = error.message
        await asyncio.sleep(ROUND)  # the front door may be back; nothing tells when
