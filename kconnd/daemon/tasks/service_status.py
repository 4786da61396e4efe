"""Reports the daemon's status to the service manager, and ends an unused daemon.

The event loop sends the watchdog notification, so that systemd detects an event loop that hangs. A
daemon with socket activation may exit when there is no live kernel, because the next client starts
the daemon again.
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
    """Report the status; set ``ending`` after ``exit_idle`` seconds without use of the daemon."""
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
                "no kernel has been live and no client connected for %g s: this daemon exits",
                exit_idle,
            )
            ending.set()
        await asyncio.sleep(interval_s)  # the watchdog expects a notification within this interval


async def register_at_front_for_ever(kernels: Kernels, front: Path | None) -> None:
    """While a profile says ``start: boot``, let the front door start this daemon at each boot."""
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
                # An equal error is logged once, because every attempt may be refused.
                if error.message != logged_error:
                    log.warning("registering for a start at boot: %s", error.message)
                logged_error = error.message
        await asyncio.sleep(FRONT_INTERVAL_S)  # no event reports that the front door runs again
