"""Reports the daemon's status to the service manager, and ends an idle daemon.

The watchdog notification comes from the event loop, so that systemd notices a loop that hangs. A
daemon with socket activation may end when no kernel lives: the next client starts it again.
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

MAX_INTERVAL_S = 5.0
FRONT_INTERVAL_S = 5.0

log = logging.getLogger("kconnd")


async def report_for_ever(
    kernels: Kernels, site: Site, exit_idle: float, ending: asyncio.Event
) -> None:
    """Report the status; set ``ending`` once the daemon was idle for ``exit_idle`` seconds."""
    clock = kernels.world.clock
    interval_s = min(MAX_INTERVAL_S, exit_idle / 4, (watchdog_interval(os.environ) or math.inf) / 3)
    needed_at = clock()
    while True:
        states = [actor.kernel.state for actor in kernels.all()]
        live = sum(state in LIVE or state is State.BACKOFF for state in states)
        notify(WATCHDOG=1, STATUS=f"{live} of {len(states)} kernels are up")
        has_warm = kernels.pool is not None and kernels.pool.ready
        if live or has_warm or site.connections:
            needed_at = clock()
        if clock() - needed_at >= exit_idle:
            log.info(
                "no kernel has been live and no client connected for %g s: this daemon ends",
                exit_idle,
            )
            ending.set()
        await asyncio.sleep(interval_s)  # the watchdog expects a notification at least this often


async def register_at_front_for_ever(kernels: Kernels, front: Path | None) -> None:
    """Register this daemon with the front door for a start at boot, if a profile asks for one."""
    registered: bool | None = None
    logged_error = ""
    while front is not None:
        needed = any(
            loaded.profile.start == "boot" for loaded in kernels.catalog.loaded.profiles.values()
        )
        if needed is not registered:
            try:
                post = Client(str(front)).post
                await asyncio.to_thread(post, "/v1/boot", {"wanted": needed})
                registered, logged_error = needed, ""
            except KconndError as error:
                if error.message != logged_error:  # every attempt may be refused
                    log.warning("registering for a start at boot: %s", error.message)
                logged_error = error.message
        await asyncio.sleep(FRONT_INTERVAL_S)  # no event reports that the front door is back
