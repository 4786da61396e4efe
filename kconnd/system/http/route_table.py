"""The rows of a server's route table, and the interfaces of its requests.

Rule: this module knows nothing about HTTP except the names of methods and the form of paths.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from kconnd.core.access import Peer, Right

Reply = Mapping[str, Any] | AsyncIterator[Mapping[str, Any]]
Function = Callable[[Any], Awaitable[Reply]]


@dataclass(frozen=True)
class Parameter:
    """A query parameter or a field of the body, for the OpenAPI document."""

    name: str
    kind: str
    about: str


@dataclass(frozen=True)
class Route:
    """A row of the table.

    A route with ``daemons_only`` admits the owner's daemon and no other process of the owner. A
    request for a route with ``at_once`` is answered even before the server has read the state that
    an earlier daemon left.
    """

    method: str
    path: str
    right: Right
    function: Function
    parameters: tuple[Parameter, ...] = ()
    streams: bool = False
    daemons_only: bool = False
    at_once: bool = False

    @property
    def audited(self) -> bool:
        """Whether the route changes something or discloses a key."""
        return self.method == "POST" or self.path.endswith("/connection")

    @property
    def about(self) -> str:
        """A one-sentence summary."""
        return (self.function.__doc__ or "").partition("\n")[0]


class Authorisable(Protocol):
    """The interface that the requests of the daemon and of the front door implement."""

    def authorise(self, right: Right) -> None:
        """Raise RefusedError if the peer lacks a right."""
        ...


class AwaitReady(Protocol):
    """Waits until a server can handle a request; see `Site`."""

    async def __call__(self, route: Route, peer: Peer, name: str) -> str:
        """Wait until a peer's request can be handled; return the kernel's name.

        ``name`` is the ``{name}`` of the path, which can have another spelling.
        """
        ...


class MakeRequest(Protocol):
    """Creates a request from the data of a connection."""

    def __call__(
        self, *, peer: Peer, name: str, query: Mapping[str, str], body: Mapping[str, Any]
    ) -> Authorisable:
        """Combine the peer, the ``{name}`` in the path, the query and the body into a request."""
        ...
