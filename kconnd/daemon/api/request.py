"""A request to the daemon and its authorisation, and functions that several routes use."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kconnd.core.access import Peer, Right, describe_managers, may
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
    """A request: its peer, the name of its kernel (``""`` for none), its query and its body."""

    kernels: Kernels
    places: Mapping[str, Any]
    gate: Gate
    peer: Peer
    name: str = ""
    query: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] = field(default_factory=dict)

    def may(self, right: Right, name: str) -> bool:
        """Return whether the peer has a right on a kernel."""
        owner = self.kernels.world.user.uid
        if may(self.peer, right, owner=owner):  # checked first, because no profile is needed
            return True
        return may(self.peer, right, owner=owner, rules=self.kernels.rules(name))

    def visible_kernels(self) -> list[Actor]:
        """List the kernels that the peer may see, sorted by name, without those of ended runs."""
        kernels = [actor for actor in self.kernels.all() if not actor.record.is_ended_run]
        return [actor for actor in kernels if self.may(Right.SEE, actor.record.name)]

    @property
    def manages_all(self) -> bool:
        """Whether the peer is the owner, root or an administrator."""
        return may(self.peer, Right.MANAGE, owner=self.kernels.world.user.uid)

    def authorise(self, right: Right) -> None:
        """Refuse this request if its peer lacks the right.

        The machine's settings must admit the peer. For a request about one kernel, the peer needs
        the right on this kernel. For a request that changes the daemon itself, the peer needs the
        rights of the owner. For any other request about all kernels, the peer needs the right on at
        least one kernel; the reply then omits kernels on which the peer lacks the right.

        Raises
        ------
        RefusedError
            If the peer lacks the right. A peer without rights gets this error for every name, so
            that the error does not reveal which kernels exist.
        """
        self.gate.admit(self.peer)
        kernels, owner = self.kernels, self.kernels.world.user
        if self.name:
            granted = self.may(right, self.name)
        elif right is Right.MANAGE:
            granted = self.manages_all
        else:
            names = {
                *kernels.catalog.loaded.profiles,
                *(actor.record.name for actor in kernels.all()),
            }
            granted = self.manages_all or any(self.may(right, name) for name in names)
        if not granted:
            raise RefusedError(
                f"uid {self.peer.uid} may not {right.name.lower()} "
                f"{self.name or 'kernels'} of {owner.name}",
                hint=self.whom_to_ask(),
            )

    def whom_to_ask(self) -> str:
        """Return the hint of a refusal: whom the peer can ask.

        If the peer may see the kernel, the hint names the kernel's managers. To another peer, these
        names would reveal that the kernel exists.
        """
        owner = self.kernels.world.user.name
        if not self.name or not self.may(Right.SEE, self.name):
            return f"ask {owner}"
        return f"ask {describe_managers(owner, self.kernels.rules(self.name))}, who may manage it"

    def flag(self, key: str, *, default: bool) -> bool:
        """Read a boolean from the body."""
        value = self.body.get(key, default)
        if not isinstance(value, bool):
            raise UsageError(f"{key}: {value!r} is not true or false")
        return value

    def number(self, key: str, default: float, maximum: float) -> float:
        """Read a number from the query."""
        text = self.query.get(key)
        if text is None:
            return default
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not 0 <= value <= maximum:
            raise UsageError(f"{key}: {text!r} is not a number from 0 to {maximum:g}")
        return value


async def info_of(request: Request, actor: Actor, *, quick: bool = False) -> Mapping[str, Any]:
    """Describe a kernel as far as the peer's rights allow, with recent readings.

    With ``quick``, no reading is taken, and memory and clients are omitted.
    """
    if not quick:
        await request.kernels.readings.refresh([actor])
    return describe_actor(request, actor, quick=quick)


def describe_actor(request: Request, actor: Actor, *, quick: bool = False) -> Mapping[str, Any]:
    """Describe a kernel as far as the peer's rights allow.

    Memory and clients are the values of the last measurement; ``quick`` omits them.
    """
    status = request.kernels.profile_status(actor)
    sight = request.kernels.readings.sight(actor, status, quick=quick)
    consoles = request.kernels.consoles.of(actor.record.name)
    description = {**describe(actor.record, sight), "consoles": consoles}
    may_connect = request.may(Right.CONNECT, actor.record.name)
    return description if may_connect else without_output(description)


def find_live(request: Request, doing: str) -> Actor:
    """Return a kernel that has a process.

    Raises
    ------
    NotRunningError
        If the kernel has no process.
    """
    actor = request.kernels.find(request.name)
    if actor.kernel.state not in LIVE:
        raise NotRunningError(
            f"{doing} {request.name}: it is {actor.kernel.state}",
            hint=f"kconnd-ctl start {request.name} starts it",
        )
    return actor
