"""HTTP/1.1 and JSON on a Unix socket, from a table of routes, every request authorised.

Rules. The peer is who the operating system says, read once when it connects; without that
there is no answer. The right that a route needs is checked before the body is parsed.
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
from tornado.httputil import HTTPHeaders, HTTPServerRequest, ResponseStartLine

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


class Exchange:
    """One request and its answer: HTTP becomes a `Request`, what its function gives HTTP.

    Parameters
    ----------
    site : Site
        What was asked.
    request : HTTPServerRequest
        What came, whole.
    """

    def __init__(self, site: "Site", request: HTTPServerRequest) -> None:
        self._site, self._request = site, request
        self._connection: Any = request.connection  # an HTTP1Connection, always
        self._method = request.method or ""

    def begin(self) -> None:
        """Answer it, and let go of what is done for a client that is gone."""
        work = asyncio.get_running_loop().create_task(self._serve())
        self._connection.set_close_callback(work.cancel)

    async def _serve(self) -> None:
        with contextlib.suppress(asyncio.CancelledError, tornado.iostream.StreamClosedError):
            await self._answer()

    async def _answer(self) -> None:
        route: Route | None = None
        outcome, name = "done", ""
        try:
            route, name = self._site.find(self._method, self._request.path)
            self._take_in(name, {}).authorise(route.right)
            request = self._take_in(name, _parse_body(self._request.body))
            reply = await route.function(request)
        except KconndError as error:
            outcome = error.code
            await self._refuse(error)
        except Exception:
            outcome = "a fault"
            log.exception("%s %s failed", self._method, self._request.path)
            await self._refuse(
                KconndError(
                    f"{self._method} {self._request.path}: the daemon has a fault",
                    hint="its log has the details; please report it",
                )
            )
        else:
            await self._send(reply)
        finally:
            if route is not None and route.audited:
                self._audit(route, name, outcome)

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

    def _take_in(self, name: str, body: Mapping[str, Any]) -> Request:
        query = {
            key: values[-1].decode(errors="replace")
            for key, values in self._request.query_arguments.items()
        }
        return self._site.make_request(peer=self._peer(), name=name, query=query, body=body)

    def _peer(self) -> Peer:
        stream = getattr(self._connection, "stream", None)
        peer = self._site.server.peers.get(stream) if stream is not None else None
        if peer is None:
            raise RefusedError("nobody can tell who is asking")
        return peer

    async def _send(self, reply: Reply, status: int = HTTPStatus.OK) -> None:
        if isinstance(reply, Mapping):
            text = json.dumps(reply).encode()
            headers = {"Content-Type": "application/json", "Content-Length": str(len(text))}
            sent = b"" if self._method == "HEAD" else text  # an answer to that has no body
            await self._connection.write_headers(_status_line(status), HTTPHeaders(headers), sent)
        else:
            headers = {"Content-Type": "application/jsonlines"}
            await self._connection.write_headers(_status_line(status), HTTPHeaders(headers))
            async for line in reply:
                await self._connection.write(json.dumps(line).encode() + b"\n")
        self._connection.finish()
        log.debug("%s %s: %d", self._method, self._request.path, status)

    async def _refuse(self, error: KconndError) -> None:
        told = {"code": error.code, "message": error.message, "hint": error.hint}
        told |= {key: told_ for key in ("output", "owner") if (told_ := getattr(error, key, ""))}
        await self._send({"error": told}, error.http_status)


def _status_line(status: int) -> ResponseStartLine:
    return ResponseStartLine("HTTP/1.1", status, HTTPStatus(status).phrase)


def _parse_body(body: bytes) -> Mapping[str, Any]:
    try:
        content = json.loads(body) if body else {}
    except ValueError as error:
        raise UsageError(f"the request's body is not JSON: {error}") from error
    except RecursionError:
        raise UsageError("the request's body is nested too deeply") from None
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
        self._plain: dict[str, dict[str, Route]] = {}
        self._named: list[tuple[re.Pattern[str], dict[str, Route]]] = []
        for path in dict.fromkeys(route.path for route in routes):
            methods = {route.method: route for route in routes if route.path == path}
            if "{name}" in path:
                self._named.append((_pattern(path), methods))
            else:
                self._plain[path] = methods
        self.server = Server(
            lambda request: Exchange(self, request).begin(),
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

    def find(self, method: str, path: str) -> tuple[Route, str]:
        """Find the row of the table for a request, and the ``{name}`` in its path.

        Raises
        ------
        UsageError
            If there is none.
        """
        methods, name = self._plain.get(path), ""
        for pattern, found in () if methods else self._named:
            if match := pattern.fullmatch(path):
                methods, name = found, unquote(match[1])
                break
        if methods is None:
            raise UsageError(
                f"{method} {path} is not a request that kconnd knows",
                hint="GET /v1/openapi.json lists them",
            )
        if method not in methods:
            raise UsageError(f"{method} is not a method of {path}")
        return methods[method], name

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


def _pattern(path: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\{name\\}", "([^/]+)", re.escape(path)))


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True
