"""Reports the daemon's status to the service manager, and ends an unused daemon.

The event loop sends the watchdog notification, so that systemd detects an event loop that hangs. A
daemon with socket activation may exit when there is no live kernel, because the next client starts
the daemon again.
"""

import asyncio
import logging
import math
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from kconnd.client import Client
from kconnd.core.kernel.lifecycle import LIVE, State
from kconnd.core.profile.model import Access, Profile
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


@dataclass
class Registration:
    """A fact about the profiles that this daemon reports to the front door at each change.

    Parameters
    ----------
    route : str
        The front door's route for the fact.
    purpose : str
        What the front door does with the fact, for the log.
    applies : callable
        A function that returns whether the fact applies to a profile.
    """

    route: str
    purpose: str
    applies: Callable[[Profile], bool]
    _reported: bool | None = None
    _logged_error: str = ""

    async def report(self, front: Path, profiles: Iterable[Profile]) -> None:
        """Report whether the fact applies to any profile, unless the front door knows it."""
        current = any(map(self.applies, profiles))
        if current is self._reported:
            return
        try:
            post = Client(str(front)).post
            await asyncio.to_thread(post, self.route, {"wanted": current})
            self._reported, self._logged_error = current, ""
        except KconndError as error:
            # An equal error is logged once, because every attempt may be refused.
            if error.message != self._logged_error:
                log.warning("registering %s: %s", self.purpose, error.message)
            self._logged_error = error.message


def registrations() -> tuple[Registration, ...]:
    """Return the facts that a daemon reports."""
    return (
        Registration("/v1/boot", "for a start at boot", lambda profile: profile.start == "boot"),
        Registration(
            "/v1/sharing",
            "kernels that others may see",
            lambda profile: profile.access != Access(),
        ),
    )


async def register_at_front_for_ever(kernels: Kernels, front: Path | None) -> None:
    """Report facts about the profiles to the front door.

    While a profile says ``start: boot``, the front door starts this daemon at each boot. While a
    profile grants rights to other users, the front door names this owner to users who list kernels.
    """
    facts = registrations()
    while front is not None:
        loaded = kernels.catalog.loaded.profiles.values()
        profiles = [sourced.profile for sourced in loaded]
        for fact in facts:
            await fact.report(front, profiles)
        await asyncio.sleep(FRONT_INTERVAL_S)  # no event reports that the front door runs again
