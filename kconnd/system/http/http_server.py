"""HTTP/1.1 and JSON on a Unix socket, from a table of routes, every request authorised.

Rules. The peer is who the operating system says, read once when it connects; without that
there is no answer. The right that a route needs is checked by the request's head, before the
body is read. A connection has one request at a time: what comes with the next one in the same
breath is refused, since a hostile text in a request's head would read as two.
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
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote

import tornado.iostream
import tornado.netutil
from tornado.httputil import (
    HTTPConnection,
    HTTPHeaders,
    HTTPMessageDelegate,
    HTTPServerConnectionDelegate,
    HTTPServerRequest,
    RequestStartLine,
    ResponseStartLine,
)

from kconnd.core.access import Peer
from kconnd.errors import KconndError, LockedError, RefusedError, UsageError
from kconnd.system.fast_json import as_json
from kconnd.system.http.audit import HUNG_UP, Audit, is_name
from kconnd.system.http.body_limits import (
    MAX_BODY_BYTES,
    bytes_to_drain,
    check_size,
    drain,
    has_body,
)
from kconnd.system.http.connections import MAX_CONNECTIONS, PeerStream, new_server
from kconnd.system.http.peer import Caller, UserDirectory
from kconnd.system.http.route_table import GetReady, MakeRequest, Reply, Request, Route
from kconnd.system.process.daemon_process import check_peer_is_daemon

MAX_HEADER = 40 << 10  # bytes; Tornado takes 16 ms for one that is all short lines
IDLE = 300.0  # seconds a connection may do nothing
BACKLOG = 1024  # clients that wait to be taken; one beyond it is told to try again
BODY_TIME = 10.0  # seconds to send a body in

log = logging.getLogger("kconnd")


class Exchange(HTTPMessageDelegate):
    """One request and its answer: HTTP becomes a `Request`, what its function gives HTTP.

    The head decides. A peer without a right to the route, and a body that is too large, are
    refused before the body is read, and the connection is closed.

    Parameters
    ----------
    site : Site
        What was asked.
    connection : HTTP1Connection
        Where the request comes from.
    """

    _request: HTTPServerRequest
    _route: Route
    _peer: Peer

    def __init__(self, site: "Site", connection: Any) -> None:
        self._site, self._connection = site, connection
        self._stream: PeerStream = connection.stream
        self._caller = site.server.callers.get(self._stream)
        self._method = self._name = ""
        self._audited = False
        self._refusal: KconndError | None = None
        self._body = bytearray()

    async def headers_received(
        self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders
    ) -> None:
        """Judge a request by its head. Tornado reads no body before this has returned."""
        self._request = HTTPServerRequest(
            connection=self._connection,
            start_line=cast("RequestStartLine", start_line),
            headers=headers,
        )
        self._method = self._request.method or ""
        try:
            await self._admit()
        except KconndError as error:
            self._refusal = error
        except Exception:  # the traceback is in the log, and the client is told
            log.exception("%s %a failed", self._method, self._request.path)
            self._refusal = self._fault()
        if self._refusal is not None and has_body(headers):
            self._note(self._refusal.code)
            await self._turn_away(self._refusal, bytes_to_drain(headers))
            self._connection.detach().close()

    def data_received(self, chunk: bytes) -> None:
        """Keep a part of the body."""
        self._body += chunk

    def finish(self) -> None:
        """Answer a request that has come whole; drop the work if its client hangs up."""
        if self._refusal is None and self._stream.has_unread():
            self._refusal = _pipelined()
        if self._answer_at_once():
            return
        work = asyncio.get_running_loop().create_task(self._serve())
        self._connection.set_close_callback(work.cancel)

    def on_connection_close(self) -> None:
        """Do nothing for a client that hung up before its request was complete."""

    async def _admit(self) -> None:
        """Refuse a request that its head already rules out.

        Raises
        ------
        KconndError
            If it comes too early, is for no route, is not the peer's to make, or is too large.
        """
        if self._caller is None:
            raise RefusedError("nobody can tell who is asking")
        if self._caller.is_pipelining:
            raise _pipelined()
        self._route, self._name = self._site.find(self._method, self._request.path)
        self._audited = self._route.audited
        self._peer = await self._caller.identify()
        if self._site.get_ready is not None:
            await self._site.get_ready(self._route, self._peer, self._name)
        self._take_in(self._peer, self._name, {}).authorise(self._route.right)
        if self._route.daemons_only:
            check_peer_is_daemon(self._stream.socket, self._peer)
        check_size(self._request.headers)

    def _answer_at_once(self) -> bool:
        """Answer by a glance, if that will do; a refusal or a fault is told the longer way."""
        if self._refusal is not None or self._route.glance is None or self._audited or self._body:
            return False
        try:
            reply = self._route.glance(self._take_in(self._peer, self._name, {}))
        except Exception:  # noqa: BLE001  # it happens again there, and is logged there
            return False
        if reply is None:
            return False
        self._write(reply, HTTPStatus.OK)  # of one that is gone, Tornado lets go by itself
        self._finish(HTTPStatus.OK)
        return True

    async def _serve(self) -> None:
        with contextlib.suppress(asyncio.CancelledError, tornado.iostream.StreamClosedError):
            if self._refusal is None:
                await self._answer()
            else:
                self._note(self._refusal.code)
                await self._refuse(self._refusal)

    async def _answer(self) -> None:
        outcome = HUNG_UP
        try:
            body = _parse_body(bytes(self._body))
            request = self._take_in(self._peer, self._name, body)
            self._name = self._name or _name_in(body)
            outcome = "hung up while it was done"
            reply = await self._route.function(request)
            outcome = "done"
        except KconndError as error:
            outcome = error.code
            await self._refuse(error)
        except Exception:
            outcome = "a fault"
            log.exception("%s %a failed", self._method, self._request.path)
            await self._refuse(self._fault())
        else:
            await self._send(reply, still_may=self._check_again)
        finally:
            self._note(outcome)

    def _fault(self) -> KconndError:
        return KconndError(
            f"{self._method} {self._request.path}: the daemon has a fault",
            hint="its log has the details; please report it",
        )

    def _note(self, outcome: str) -> None:
        if self._audited and self._caller is not None:
            verb = self._route.path.rpartition("/")[2]
            self._site.audit.note(self._caller.peer, verb, self._name, outcome)

    def _take_in(self, peer: Peer, name: str, body: Mapping[str, Any]) -> Request:
        query = {
            key: values[-1].decode(errors="replace")
            for key, values in self._request.query_arguments.items()
        }
        return self._site.make_request(peer=peer, name=name, query=query, body=body)

    async def _check_again(self) -> None:
        """Refuse a peer that has lost its right, or anything by which it may have had it."""
        peer = await cast("Caller", self._caller).identify()
        if not self._peer.groups <= peer.groups or self._peer.name != peer.name:
            raise RefusedError(f"uid {peer.uid} is not who it was")
        self._take_in(peer, self._name, {}).authorise(self._route.right)

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
            await self._follow(reply, still_may)
            self._watch_for_more()
        self._finish(status)

    def _write(self, reply: Mapping[str, Any], status: int, **more_headers: str) -> Awaitable[None]:
        self._watch_for_more()
        text = as_json(reply)
        headers = {"Content-Type": "application/json", "Content-Length": str(len(text))}
        headers |= more_headers
        sent = b"" if self._method == "HEAD" else text  # an answer to that has no body
        written: Awaitable[None] = self._connection.write_headers(
            _status_line(status), HTTPHeaders(headers), sent
        )
        return written

    def _finish(self, status: int) -> None:
        self._connection.finish()
        log.debug("%s %s: %d", self._method, self._request.path, status)

    async def _follow(
        self,
        lines: AsyncIterator[Mapping[str, Any]],
        still_may: Callable[[], Awaitable[None]] | None,
    ) -> None:
        """Send what comes, until its end or that of the peer's right to it."""
        coming = asyncio.ensure_future(anext(lines, None))
        try:
            while True:
                await asyncio.wait({coming}, timeout=self._site.server.directory.expiry_s)
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

    def _watch_for_more(self) -> None:
        """Note, before the client has this answer, whether it has sent the next request."""
        if self._caller is not None and self._stream.has_unread():
            self._caller.is_pipelining = True

    async def _refuse(self, error: KconndError) -> None:
        if self._stream.has_unread():
            await self._turn_away(error)
            self._connection.close()
        else:
            await self._send(_told(error), error.http_status)

    async def _turn_away(self, error: KconndError, unwanted: int = 0) -> None:
        """Send a refusal as the last thing over this connection."""
        with contextlib.suppress(tornado.iostream.StreamClosedError):
            await self._write(_told(error), error.http_status, Connection="close")
            await drain(self._stream, unwanted)


def _told(error: KconndError) -> dict[str, Any]:
    told = {"code": error.code, "message": error.message, "hint": error.hint}
    told |= {key: told_ for key in ("output", "owner") if (told_ := getattr(error, key, ""))}
    return {"error": told}


def _pipelined() -> UsageError:
    return UsageError(
        "a second request came over this connection before the first was answered",
        hint="send the next one once the answer is there, or use a connection for each",
    )


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


class Site(HTTPServerConnectionDelegate):
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
    get_ready : GetReady, optional
        Is awaited before a request is authorised.
    """

    def __init__(
        self,
        routes: Sequence[Route],
        make_request: MakeRequest,
        max_connections: int = MAX_CONNECTIONS,
        directory: UserDirectory | None = None,
        get_ready: GetReady | None = None,
    ) -> None:
        self.make_request, self.get_ready = make_request, get_ready
        self._plain: dict[str, dict[str, Route]] = {}
        self._named: list[tuple[re.Pattern[str], dict[str, Route]]] = []
        for path in dict.fromkeys(route.path for route in routes):
            methods = {route.method: route for route in routes if route.path == path}
            if "{name}" in path:
                self._named.append((_pattern(path), methods))
            else:
                self._plain[path] = methods
        self.server = new_server(
            self,
            max_connections,
            directory or UserDirectory(),
            max_body_size=MAX_BODY_BYTES,
            max_header_size=MAX_HEADER,
            idle_connection_timeout=IDLE,
            body_timeout=BODY_TIME,
        )
        self.audit = Audit()
        self._path: Path | None = None
        self._inode = 0
        self._passed = ""

    def start_request(self, _server_conn: object, request_conn: HTTPConnection) -> Exchange:
        """Take the next request of a connection."""
        return Exchange(self, request_conn)

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
        for stream in list(self.server.callers):
            stream.close()  # also of those that were turned away
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
