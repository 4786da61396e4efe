"""A request to the daemon: what was asked, by whom, and what several answers share."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kconnd.core.access import Peer, Right, may
from kconnd.core.kernel.lifecycle import LIVE
from kconnd.core.kernel.view import describe, without_output
from kconnd.daemon.api.admission import Gate
from kconnd.daemon.kernel.actor import Actor
from kconnd.daemon.kernels import Kernels
from kconnd.errors import (
    NotRunningError,
    RefusedError,
    UsageError,
)


@dataclass(frozen=True)
class Request:
    """What was asked, by whom."""

    kernels: Kernels
    places: Mapping[str, Any]
    gate: Gate
    peer: Peer
    name: str = ""
    query: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] = field(default_factory=dict)

    def may(self, right: Right, name: str) -> bool:
        """Tell whether the peer has a right on one kernel."""
        owner = self.kernels.world.user.uid
        if may(self.peer, right, owner=owner):  # whatever its profile says, which takes longer
            return True
        return may(self.peer, right, owner=owner, rules=self.kernels.rules(name))

    @property
    def manages_all(self) -> bool:
        """Whether the peer is the owner, root or an administrator."""
        return may(self.peer, Right.MANAGE, owner=self.kernels.world.user.uid)

    def authorise(self, right: Right) -> None:
        """Refuse a request that its peer has no right to.

        What is about all kernels needs the right on one of them, and shows only those; what
        changes the daemon itself is for its owner. Before all that, its peer has to be one who
        may use the service.

        Raises
        ------
        RefusedError
            Also for a kernel that does not exist, so that nobody learns which do.
        """
        self.gate.admit(self.peer)
        kernels, owner = self.kernels, self.kernels.world.user
        if self.name:
            granted = self.may(right, self.name)
        elif right is Right.MANAGE:
            granted = self.manages_all
        else:
            names = {*kernels.catalog.loaded.profiles, *(one.record.name for one in kernels.all())}
            granted = self.manages_all or any(self.may(right, name) for name in names)
        if not granted:
            raise RefusedError(
                f"uid {self.peer.uid} may not {right.name.lower()} "
                f"{self.name or 'kernels'} of {owner.name}",
                hint=f"ask {owner.name}",
            )

    def flag(self, key: str, *, default: bool) -> bool:
        """Read a yes or no of the body."""
        value = self.body.get(key, default)
        if not isinstance(value, bool):
            raise UsageError(f"{key}: {value!r} is neither true nor false")
        return value

    def number(self, key: str, default: float, most: float) -> float:
        """Read a number of the query."""
        text = self.query.get(key)
        if text is None:
            return default
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not 0 <= value <= most:
            raise UsageError(f"{key}: {text!r} is not a number from 0 to {most:g}")
        return value


async def info_of(request: Request, actor: Actor, *, quick: bool = False) -> Mapping[str, Any]:
    """Show a kernel, as far as the peer may see it; ``quick`` leaves out what is slow to read."""
    if not quick:
        await request.kernels.readings.refresh([actor])
    return show(request, actor, quick=quick)


def show(request: Request, actor: Actor, *, quick: bool = False) -> Mapping[str, Any]:
    """Show a kernel by what is known of it, as far as the peer may see it."""
    status = request.kernels.profile_status(actor)
    sight = request.kernels.readings.sight(actor, status, quick=quick)
    consoles = request.kernels.consoles.of(actor.record.name)
    shown = {**describe(actor.record, sight), "consoles": consoles}
    return shown if request.may(Right.CONNECT, actor.record.name) else without_output(shown)


def live(request: Request, doing: str) -> Actor:
    """Find a kernel that has a process.

    Raises
    ------
    NotRunningError
        If it has none.
    """
    actor = request.kernels.find(request.name)
    if actor.kernel.state not in LIVE:
        raise NotRunningError(
            f"{doing} {request.name}: it is {actor.kernel.state}",
            hint=f"kconnd-ctl start {request.name} starts it",
        )
    return actor
