"""HTTP/1.1 and JSON on a Unix socket, from a table of routes, every request authorised.

Rules. The peer is who the operating system says, read once when it connects; without that
there is no answer. The right that a route needs is checked before its function runs.
Connections a user, sizes and times are bounded, so nobody can keep others out.
"""

import asyncio
import contextlib
import json
import logging
import math
import re
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote
from weakref import WeakKeyDictionary

import tornado.httpserver
import tornado.iostream
import tornado.netutil
import tornado.web

from kconnd.core.access import Peer, Right
from kconnd.errors import KconndError, LockedError, RefusedError, UsageError
from kconnd.system.journal import AUDIT
from kconnd.system.peer import read_peer

MAX_BODY = 1 << 20  # bytes
MAX_HEADER = 64 << 10
MAX_CONNECTIONS = 128  # of one user
IDLE = 300.0  # seconds a connection may do nothing
ONCE = 60.0  # seconds between two lines of the log about the same user
BODY_TIME = 10.0  # seconds to send a body in

log = logging.getLogger("kconnd")


Reply = Mapping[str, Any] | AsyncIterator[Mapping[str, Any]]
Function = Callable[[Any], Awaitable[Reply]]


@dataclass(frozen=True)
class Parameter:
    """A parameter of the query, or a field of the body, for the OpenAPI document."""

    name: str
    kind: str
    about: str


@dataclass(frozen=True)
class Route:
    """One row of the table."""

    method: str
    path: str
    right: Right
    function: Function
    parameters: tuple[Parameter, ...] = ()
    streams: bool = False

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


class MakeRequest(Protocol):
    """Makes a request of what came over a connection."""

    def __call__(
        self, *, peer: Peer, name: str, query: Mapping[str, str], body: Mapping[str, Any]
    ) -> Request:
        """Take the peer, the ``{name}`` of the path, the query and the body."""
        ...


class Server(tornado.httpserver.HTTPServer):
    """Knows the peer of each of its connections, and how many each user has."""

    peers: "WeakKeyDictionary[tornado.iostream.IOStream, Peer]"
    max_connections: int
    told: dict[int, float]

    def handle_stream(self, stream: tornado.iostream.IOStream, address: Any) -> None:
        """Take a connection, if its peer is known and has not too many."""
        try:
            peer = read_peer(stream.socket)
        except OSError:
            stream.close()
            return
        theirs = (s for s, known in self.peers.items() if known.uid == peer.uid and not s.closed())
        if sum(1 for _ in theirs) >= self.max_connections:
            self._tell_of_crowd(peer)
            stream.close()
            return
        self.peers[stream] = peer
        super().handle_stream(stream, address)

    def _tell_of_crowd(self, peer: Peer) -> None:
        """Log it once a minute for each user, however many connections are closed."""
        now = time.monotonic()
        if now - self.told.get(peer.uid, -math.inf) >= ONCE:
            self.told[peer.uid] = now
            count = self.max_connections
            log.warning("uid %d has %d connections; closed another", peer.uid, count)


class Endpoint(tornado.web.RequestHandler):
    """Turns HTTP into a `Request`, and what its function gives, or raises, into HTTP."""

    def initialize(self, routes: Mapping[str, Route], site: "Site") -> None:
        """Take what the table says about this path."""
        self._routes, self._site = routes, site
        self._work: asyncio.Future[None] | None = None

    async def get(self, name: str = "") -> None:
        """Answer a GET."""
        await self._serve("GET", name)

    async def post(self, name: str = "") -> None:
        """Answer a POST."""
        await self._serve("POST", name)

    def on_connection_close(self) -> None:
        """Let go of what is done for a client that is gone."""
        if self._work is not None:
            self._work.cancel()

    async def _serve(self, method: str, name: str) -> None:
        self._work = asyncio.ensure_future(self._answer(method, name))
        with contextlib.suppress(asyncio.CancelledError, tornado.iostream.StreamClosedError):
            await self._work

    async def _answer(self, method: str, name: str) -> None:
        route: Route | None = None
        outcome = "done"
        try:
            route = self._route(method)
            request = self._request(unquote(name))
            request.authorise(route.right)
            reply = await route.function(request)
        except KconndError as error:
            outcome = error.code
            self._refuse(error)
        except Exception:
            outcome = "a fault"
            log.exception("%s %s failed", method, self.request.path)
            self._refuse(
                KconndError(
                    f"{method} {self.request.path}: the daemon has a fault",
                    hint="its log has the details; please report it",
                )
            )
        else:
            await self._send(reply)
        finally:
            if route is not None and route.audited:
                self._audit(route, unquote(name), outcome)

    def _audit(self, route: Route, name: str, outcome: str) -> None:
        """Log who asked for what and what came of it, on one line whatever was in the name."""
        peer = self._peer()
        verb = route.path.rpartition("/")[2]
        shown = "".join(char if char.isprintable() else "?" for char in name[:100])
        fields = {
            "MESSAGE_ID": AUDIT,
            "KCONND_UID": peer.uid,
            "KCONND_PID": peer.pid,
            "KCONND_VERB": verb,
            "KCONND_KERNEL": shown,
            "KCONND_OUTCOME": outcome,
        }
        told = (peer.uid, peer.pid, verb, shown, outcome)
        log.info("uid %d, pid %d asked for %s %s: %s", *told, extra=fields)

    def _route(self, method: str) -> Route:
        route = self._routes.get(method)
        if route is None:
            raise UsageError(f"{method} is not a method of {self.request.path}")
        return route

    def _request(self, name: str) -> Request:
        query = {
            key: values[-1].decode(errors="replace")
            for key, values in self.request.query_arguments.items()
        }
        body = _parse_body(self.request.body)
        return self._site.make_request(peer=self._peer(), name=name, query=query, body=body)

    def _peer(self) -> Peer:
        connection = self.request.connection
        stream = getattr(connection, "stream", None)
        peer = self._site.server.peers.get(stream) if stream is not None else None
        if peer is None:
            raise RefusedError("nobody can tell who is asking")
        return peer

    async def _send(self, reply: Mapping[str, Any] | AsyncIterator[Mapping[str, Any]]) -> None:
        if isinstance(reply, Mapping):
            self.set_header("Content-Type", "application/json")
            self.finish(json.dumps(reply))
            return
        self.set_header("Content-Type", "application/jsonlines")
        async for line in reply:
            self.write(json.dumps(line) + "\n")
            await self.flush()
        self.finish()

    def _refuse(self, error: KconndError) -> None:
        told = {"code": error.code, "message": error.message, "hint": error.hint}
        told |= {key: told_ for key in ("output", "owner") if (told_ := getattr(error, key, ""))}
        self.set_status(error.http_status)
        self.set_header("Content-Type", "application/json")
        self.finish(json.dumps({"error": told}))

    def log_exception(self, *_args: object) -> None:
        """Stay silent: what went wrong was told to the client, or logged where it happened."""


class Unknown(Endpoint):
    """Answers for paths that are not in the table."""

    async def prepare(self) -> None:
        """Say so, whatever the method."""
        self._refuse(
            UsageError(
                f"{self.request.method} {self.request.path} is not a request that kconnd knows",
                hint="GET /v1/openapi.json lists them",
            )
        )


def _parse_body(body: bytes) -> Mapping[str, Any]:
    try:
        content = json.loads(body) if body else {}
    except ValueError as error:
        raise UsageError(f"the request's body is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise UsageError("the request's body is not a JSON object")
    return content


class Site:
    """The socket and all that answers on it.

    Parameters
    ----------
    routes : sequence of Route
        What can be asked.
    make_request : MakeRequest
        What a route's function gets is made with it.
    max_connections : int
        How many each user may have at once.
    """

    def __init__(
        self,
        routes: Sequence[Route],
        make_request: MakeRequest,
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:
        self.make_request = make_request
        by_path: dict[str, dict[str, Route]] = {}
        for route in routes:
            by_path.setdefault(route.path, {})[route.method] = route
        given = {"site": self}
        rules = [
            (_pattern(path), Endpoint, given | {"routes": found}) for path, found in by_path.items()
        ]
        application = tornado.web.Application(
            [*rules, (r".*", Unknown, given | {"routes": {}})], log_function=_log_request
        )
        self.server = Server(
            application,
            max_body_size=MAX_BODY,
            max_header_size=MAX_HEADER,
            idle_connection_timeout=IDLE,
            body_timeout=BODY_TIME,
        )
        self.server.peers = WeakKeyDictionary()
        self.server.max_connections = max_connections
        self.server.told = {}
        self._path: Path | None = None
        self._inode = 0
        self._passed = ""

    def listen(self, path: Path, mode: int = 0o600) -> None:
        """Listen on a socket; one that a dead daemon left behind is replaced.

        Raises
        ------
        LockedError
            If a live one listens there.
        """
        if path.is_socket() and _answers(path):
            raise LockedError(
                f"listening on {path}: another daemon answers there",
                hint="kconnd-ctl doctor shows which one",
            )
        self.server.add_socket(tornado.netutil.bind_unix_socket(str(path), mode=mode))
        self._path, self._inode = path, path.stat().st_ino

    def take(self, passed: socket.socket) -> None:
        """Listen on a socket that the service manager made, and looks after."""
        self._passed = str(passed.getsockname())
        self.server.add_socket(passed)

    @property
    def is_listening(self) -> bool:
        """Whether there is a socket."""
        return bool(self._path or self._passed)

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return sum(not stream.closed() for stream in self.server.peers)

    @property
    def address(self) -> str:
        """Where clients connect."""
        return self._passed or str(self._path)

    def listen_again(self) -> None:
        """Make the socket again, should somebody have removed it; those connected stay so."""
        if self._path is None:
            return
        if self._path.exists() and self._path.stat().st_ino == self._inode:
            return
        log.warning("the socket %s was gone; listening there again", self._path)
        self.listen(self._path)

    async def close(self) -> None:
        """Stop listening and drop all connections."""
        self.server.stop()
        await self.server.close_all_connections()
        if self._path is not None:
            self._path.unlink(missing_ok=True)


def _pattern(path: str) -> str:
    return re.sub(r"\\{name\\}", "([^/]+)", re.escape(path))


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True


def _log_request(handler: tornado.web.RequestHandler) -> None:
    status = HTTPStatus(handler.get_status())
    log.debug("%s %s: %s", handler.request.method, handler.request.path, status)
