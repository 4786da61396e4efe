"""HTTP/1.1 and JSON on a Unix socket, from a table of routes, every request authorised.

Rules. The peer is who the operating system says, read once when it connects; without that
there is no answer. The right that a route needs is checked before the body is parsed.
What takes no waiting is answered at once, where a task of its own would cost as much again.
Sizes and times are bounded, so nobody can keep others out.
"""

import asyncio
import contextlib
import json
import logging
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from functools import cache, partial
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import tornado.iostream
import tornado.netutil
from tornado.httputil import HTTPHeaders, HTTPServerRequest, ResponseStartLine

from kconnd.core.access import Peer
from kconnd.errors import KconndError, LockedError, RefusedError, UsageError
from kconnd.system.accepting import MAX_CONNECTIONS, new_server
from kconnd.system.as_json import as_json
from kconnd.system.audit import UNHEARD, Audit, is_name
from kconnd.system.peer import Caller, Directory
from kconnd.system.table import MakeRequest, Reply, Request, Route

MAX_BODY = 1 << 20  # bytes
MAX_HEADER = 64 << 10
IDLE = 300.0  # seconds a connection may do nothing
BACKLOG = 1024  # clients that wait to be taken; one beyond it is told to try again
BODY_TIME = 10.0  # seconds to send a body in

log = logging.getLogger("kconnd")


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
        self._caller = _caller(site, self._connection)
        self._method = request.method or ""

    def begin(self) -> None:
        """Answer it, and let go of what is done for a client that is gone."""
        if self._answer_at_once():
            return
        work = asyncio.get_running_loop().create_task(self._serve())
        self._connection.set_close_callback(work.cancel)

    def _answer_at_once(self) -> bool:
        """Answer by a glance, if that will do; a refusal or a fault is told the longer way."""
        peer = self._caller.known if self._caller is not None else None
        try:
            route, name = self._site.find(self._method, self._request.path)
            if peer is None or route.glance is None or route.audited or self._request.body:
                return False
            request = self._take_in(peer, name, {})
            request.authorise(route.right)
            reply = route.glance(request)
        except Exception:  # noqa: BLE001  # it happens again there, and is logged there
            return False
        if reply is None:
            return False
        self._write(reply, HTTPStatus.OK)  # of one that is gone, Tornado lets go by itself
        self._finish(HTTPStatus.OK)
        return True

    async def _serve(self) -> None:
        with contextlib.suppress(asyncio.CancelledError, tornado.iostream.StreamClosedError):
            await self._answer()

    async def _answer(self) -> None:
        route: Route | None = None
        outcome, name = UNHEARD, ""
        try:
            route, name = self._site.find(self._method, self._request.path)
            peer = await self._identify()
            self._take_in(peer, name, {}).authorise(route.right)
            body = _parse_body(self._request.body)
            request = self._take_in(peer, name, body)
            name = name or _name_in(body)
            outcome = "hung up while it was done"
            reply = await route.function(request)
            outcome = "done"
        except KconndError as error:
            outcome = error.code
            await self._refuse(error)
        except Exception:
            outcome = "a fault"
            log.exception("%s %a failed", self._method, self._request.path)
            await self._refuse(
                KconndError(
                    f"{self._method} {self._request.path}: the daemon has a fault",
                    hint="its log has the details; please report it",
                )
            )
        else:
            await self._send(reply, still_may=partial(self._check_again, route, name, peer))
        finally:
            if route is not None and route.audited and self._caller is not None:
                verb = route.path.rpartition("/")[2]
                self._site.audit.note(self._caller.peer, verb, name, outcome)

    def _take_in(self, peer: Peer, name: str, body: Mapping[str, Any]) -> Request:
        query = {
            key: values[-1].decode(errors="replace")
            for key, values in self._request.query_arguments.items()
        }
        return self._site.make_request(peer=peer, name=name, query=query, body=body)

    async def _identify(self) -> Peer:
        if self._caller is None:
            raise RefusedError("nobody can tell who is asking")
        return await self._caller.identify()

    async def _check_again(self, route: Route, name: str, before: Peer) -> None:
        """Refuse a peer that has lost its right, or anything by which it may have had it."""
        peer = await self._identify()
        if not before.groups <= peer.groups or before.name != peer.name:
            raise RefusedError(f"uid {peer.uid} is not who it was")
        self._take_in(peer, name, {}).authorise(route.right)

    async def _send(
        self,
        reply: Reply,
        status: int = HTTPStatus.OK,
        still_may: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        if isinstance(reply, Mapping):
            await self._write(reply, status)
        else:
            headers = {"Content-Type": "application/jsonlines"}
            await self._connection.write_headers(_status_line(status), HTTPHeaders(headers))
            await self._stream(reply, still_may)
        self._finish(status)

    def _write(self, reply: Mapping[str, Any], status: int) -> Awaitable[None]:
        text = as_json(reply)
        headers = {"Content-Type": "application/json", "Content-Length": str(len(text))}
        sent = b"" if self._method == "HEAD" else text  # an answer to that has no body
        written: Awaitable[None] = self._connection.write_headers(
            _status_line(status), HTTPHeaders(headers), sent
        )
        return written

    def _finish(self, status: int) -> None:
        self._connection.finish()
        log.debug("%s %s: %d", self._method, self._request.path, status)

    async def _stream(
        self,
        lines: AsyncIterator[Mapping[str, Any]],
        still_may: Callable[[], Awaitable[None]] | None,
    ) -> None:
        """Send what comes, until its end or that of the peer's right to it."""
        coming = asyncio.ensure_future(anext(lines, None))
        try:
            while True:
                await asyncio.wait({coming}, timeout=self._site.server.directory.fresh)
                if still_may is not None:
                    await still_may()
                if not coming.done():
                    continue
                if (line := coming.result()) is None:
                    break
                await self._connection.write(as_json(line) + b"\n")
                coming = asyncio.ensure_future(anext(lines, None))
        except RefusedError as error:
            log.info("a stream was ended: %s", error)
        finally:
            coming.cancel()

    async def _refuse(self, error: KconndError) -> None:
        told = {"code": error.code, "message": error.message, "hint": error.hint}
        told |= {key: told_ for key in ("output", "owner") if (told_ := getattr(error, key, ""))}
        await self._send({"error": told}, error.http_status)


def _caller(site: "Site", connection: Any) -> Caller | None:
    stream = getattr(connection, "stream", None)
    return site.server.callers.get(stream) if stream is not None else None


@cache  # looking the phrase up takes longer than all else here
def _status_line(status: int) -> ResponseStartLine:
    return ResponseStartLine("HTTP/1.1", status, HTTPStatus(status).phrase)


def _name_in(body: Mapping[str, Any]) -> str:
    """Give the kernel that a body names, where it is a name."""
    return str(body.get("name")) if is_name(body.get("name")) else ""


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
    directory : Directory, optional
        Tells names and groups of peers; by default the system's.
    """

    def __init__(
        self,
        routes: Sequence[Route],
        make_request: MakeRequest,
        max_connections: int = MAX_CONNECTIONS,
        directory: Directory | None = None,
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
        self.server = new_server(
            lambda request: Exchange(self, request).begin(),
            max_connections,
            directory or Directory(),
            max_body_size=MAX_BODY,
            max_header_size=MAX_HEADER,
            idle_connection_timeout=IDLE,
            body_timeout=BODY_TIME,
        )
        self.audit = Audit()
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
        self.server.accept_from(
            tornado.netutil.bind_unix_socket(str(path), mode=mode, backlog=BACKLOG)
        )
        self._path, self._inode = path, path.stat().st_ino

    def take(self, passed: socket.socket) -> None:
        """Listen on a socket that the service manager made, and looks after."""
        self._passed = str(passed.getsockname())
        self.server.accept_from(passed)

    @property
    def is_listening(self) -> bool:
        """Whether there is a socket."""
        return bool(self._path or self._passed)

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return sum(not stream.closed() for stream in self.server.callers)

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
