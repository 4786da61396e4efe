"""What a server on a Unix socket can be asked: the rows of its table, and what they are made of.

Rule: nothing here knows HTTP but for the names of methods and the form of paths.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from kconnd.core.access import Peer, Right

Reply = Mapping[str, Any] | AsyncIterator[Mapping[str, Any]]
Function = Callable[[Any], Awaitable[Reply]]
Glance = Callable[[Any], Mapping[str, Any] | None]


@dataclass(frozen=True)
class Parameter:
    """A parameter of the query, or a field of the body, for the OpenAPI document."""

    name: str
    kind: str
    about: str


@dataclass(frozen=True)
class Route:
    """One row of the table.

    ``daemons_only`` is for what the owner's daemon asks for, and no other process of its user.
    ``glance`` gives what ``function`` would, where that takes no waiting now; else None. It
    changes nothing, so what is audited has none. ``at_once`` where it can be answered before the
    server knows all that it is to know.
    """

    method: str
    path: str
    right: Right
    function: Function
    parameters: tuple[Parameter, ...] = ()
    streams: bool = False
    daemons_only: bool = False
    glance: Glance | None = None
    at_once: bool = False

    @property
    def audited(self) -> bool:
        """Whether it changes something, or hands out a key."""
        return self.method == "POST" or self.path.endswith("/connection")

    @property
    def about(self) -> str:
        """What it does, in one sentence."""
        return (self.function.__doc__ or "").partition("\n")[0]


class Request(Protocol):
    """What was asked, by whom; each server has its own."""

    def authorise(self, right: Right) -> None:
        """Refuse it, with RefusedError, where its peer has no right to it."""
        ...


class GetReady(Protocol):
    """Waits until a server can answer a request; see `Site`."""

    async def __call__(self, route: Route, peer: Peer, name: str) -> None:
        """Take the row of the table, the peer and the ``{name}`` of the path."""
        ...


class MakeRequest(Protocol):
    """Makes a request of what came over a connection."""

    def __call__(
        self, *, peer: Peer, name: str, query: Mapping[str, str], body: Mapping[str, Any]
    ) -> Request:
        """Take the peer, the ``{name}`` of the path, the query and the body."""
        ...
