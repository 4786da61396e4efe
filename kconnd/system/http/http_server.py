"""Serve HTTP/1.1 and JSON on a Unix socket; authorise every request by its row in a route table.

Rules. The operating system identifies the peer when the peer connects. A peer without an identity
gets no reply. The right that a route needs is checked after the head of a request is read and
before the body is read. A connection handles one request at a time. A request that arrives before
the reply to the previous request is refused, because it may be text that an attacker has injected
into the head of the previous request. Sizes and times are limited, so that no client can block
others.
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
from kconnd.core.launch.kernel_files import check_socket_path
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
from kconnd.system.http.route_table import Authorisable, AwaitReady, MakeRequest, Reply, Route
from kconnd.system.process.daemon_process import check_peer_is_daemon

MAX_HEADER_BYTES = 40 << 10  # Tornado needs 16 ms to parse a head of this size with short lines
IDLE_LIMIT_S = 300.0
BACKLOG = 1024  # pending connections; beyond this number, connect(2) fails with EAGAIN
BODY_LIMIT_S = 10.0

log = logging.getLogger("kconnd")


class Exchange(HTTPMessageDelegate):
    """Handles one HTTP request: parses it, calls the function of its route, sends the reply.

    If the peer lacks the right that the route needs, or if the body is too large, the request is
    refused before its body is read, and the connection is closed.

    Parameters
    ----------
    site : Site
        The server.
    connection : HTTP1Connection
        The connection of the request.
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
        """Check the head of a request. Tornado reads the body after this method returns."""
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
        except Exception:  # the traceback is logged, and the client gets an error
            log.exception("%s %a failed", self._method, self._request.path)
            self._refusal = self._fault()
        if self._refusal is not None and has_body(headers):
            self._note(self._refusal.code)
            await self._send_last(self._refusal, bytes_to_drain(headers))
            self._connection.detach().close()

    def data_received(self, chunk: bytes) -> None:
        """Store a part of the body."""
        self._body += chunk

    def finish(self) -> None:
        """Handle a complete request; cancel the work if the client closes the connection."""
        if self._refusal is None and self._stream.has_unread():
            self._refusal = _pipelined()
        task = asyncio.get_running_loop().create_task(self._serve())
        self._connection.set_close_callback(task.cancel)

    def on_connection_close(self) -> None:
        """Do nothing: the client closed the connection before its request was complete."""

    async def _admit(self) -> None:
        """Find the route and the peer of a request, and check whether the request is allowed.

        Raises
        ------
        KconndError
            If the request arrives before the reply to the previous request, has no route, is not
            allowed, or is too large.
        """
        if self._caller is None:
            raise RefusedError("the operating system does not identify the peer")
        if self._caller.is_pipelining:
            raise _pipelined()
        self._route, self._name = self._site.find(self._method, self._request.path)
        self._audited = self._route.audited
        self._peer = await self._caller.identify()
        if self._site.await_ready is not None:
            self._name = await self._site.await_ready(self._route, self._peer, self._name)
        self._new_request(self._peer, self._name, {}).authorise(self._route.right)
        if self._stream.closed():
            raise RefusedError("the client closed the connection before it was identified")
        if self._route.daemons_only:
            check_peer_is_daemon(self._stream.socket, self._peer)
        check_size(self._request.headers)

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
            request = self._new_request(self._peer, self._name, body)
            self._name = self._name or _name_in(body)
            outcome = "hung up during the request"
            reply = await self._route.function(request)
            outcome = "done"
        except KconndError as error:
            outcome = error.code
            await self._refuse(error)
        except Exception:
            outcome = "internal error"
            log.exception("%s %a failed", self._method, self._request.path)
            await self._refuse(self._fault())
        else:
            await self._send(reply, recheck=self._recheck_right)
        finally:
            self._note(outcome)

    def _fault(self) -> KconndError:
        return KconndError(
            f"{self._method} {self._request.path}: internal error of the daemon",
            hint="the daemon's log has the details; please report this",
        )

    def _note(self, outcome: str) -> None:
        if self._audited and self._caller is not None:
            verb = self._route.path.rpartition("/")[2]
            self._site.audit.note(self._caller.peer, verb, self._name, outcome)

    def _new_request(self, peer: Peer, name: str, body: Mapping[str, Any]) -> Authorisable:
        query = {
            key: values[-1].decode(errors="replace")
            for key, values in self._request.query_arguments.items()
        }
        return self._site.make_request(peer=peer, name=name, query=query, body=body)

    async def _recheck_right(self) -> None:
        """Refuse the peer if it has lost the right or a group, or if its name has changed."""
        peer = await cast("Caller", self._caller).identify()
        if not self._peer.groups <= peer.groups or self._peer.name != peer.name:
            raise RefusedError(f"the name or groups of uid {peer.uid} have changed")
        self._new_request(peer, self._name, {}).authorise(self._route.right)

    async def _send(
        self,
        reply: Reply,
        status: int = HTTPStatus.OK,
        recheck: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        if isinstance(reply, Mapping):
            await self._write(reply, status)
        else:
            headers = {"Content-Type": "application/jsonlines"}
            await self._connection.write_headers(_status_line(status), HTTPHeaders(headers))
            await self._stream_lines(reply, recheck)
            self._note_pipelining()
        self._finish(status)

    def _write(self, reply: Mapping[str, Any], status: int, **more_headers: str) -> Awaitable[None]:
        self._note_pipelining()
        body = as_json(reply)
        headers = {"Content-Type": "application/json", "Content-Length": str(len(body))}
        headers |= more_headers
        chunk = b"" if self._method == "HEAD" else body
        written: Awaitable[None] = self._connection.write_headers(
            _status_line(status), HTTPHeaders(headers), chunk
        )
        return written

    def _finish(self, status: int) -> None:
        self._connection.finish()
        log.debug("%s %s: %d", self._method, self._request.path, status)

    async def _stream_lines(
        self,
        lines: AsyncIterator[Mapping[str, Any]],
        recheck: Callable[[], Awaitable[None]] | None,
    ) -> None:
        """Send all lines; stop early if the peer loses its right."""
        next_line = asyncio.ensure_future(anext(lines, None))
        try:
            while True:
                await asyncio.wait({next_line}, timeout=self._site.server.directory.expiry_s)
                if recheck is not None:
                    await recheck()
                if not next_line.done():
                    continue
                if (line := next_line.result()) is None:
                    break
                await self._connection.write(as_json(line) + b"\n")
                next_line = asyncio.ensure_future(anext(lines, None))
        except RefusedError as error:
            log.info("ended a stream: %s", error)
        finally:
            next_line.cancel()

    def _note_pipelining(self) -> None:
        """Note whether the client has sent its next request before this reply."""
        if self._caller is not None and self._stream.has_unread():
            self._caller.is_pipelining = True

    async def _refuse(self, error: KconndError) -> None:
        if self._stream.has_unread():
            await self._send_last(error)
            self._connection.close()
        else:
            await self._send(_error_body(error), error.http_status)

    async def _send_last(self, error: KconndError, drain_bytes: int = 0) -> None:
        """Send a refusal as the last reply of this connection."""
        with contextlib.suppress(tornado.iostream.StreamClosedError):
            await self._write(_error_body(error), error.http_status, Connection="close")
            await drain(self._stream, drain_bytes)


def _error_body(error: KconndError) -> dict[str, Any]:
    fields = {"code": error.code, "message": error.message, "hint": error.hint}
    fields |= {
        key: text for key in ("output", "owner", "names") if (text := getattr(error, key, ""))
    }
    return {"error": fields}


def _pipelined() -> UsageError:
    return UsageError(
        "this connection received a second request before the reply to the first",
        hint="send the next request after the reply, or use one connection per request",
    )


@cache  # the look-up of the phrase is slow
def _status_line(status: int) -> ResponseStartLine:
    return ResponseStartLine("HTTP/1.1", status, HTTPStatus(status).phrase)


def _name_in(body: Mapping[str, Any]) -> str:
    """Return the kernel name in a body; ``""`` if there is no valid name."""
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
    """A server: its sockets, routes and connections.

    Parameters
    ----------
    routes : sequence of Route
        The route table.
    make_request : MakeRequest
        Creates the argument of a route's function.
    max_connections : int
        The maximum number of connections per user.
    directory : UserDirectory, optional
        Looks up the names and groups of peers; by default the system's database.
    await_ready : AwaitReady, optional
        A function that is awaited before a request is authorised.
    """

    def __init__(
        self,
        routes: Sequence[Route],
        make_request: MakeRequest,
        max_connections: int = MAX_CONNECTIONS,
        directory: UserDirectory | None = None,
        await_ready: AwaitReady | None = None,
    ) -> None:
        self.make_request, self.await_ready = make_request, await_ready
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
            max_header_size=MAX_HEADER_BYTES,
            idle_connection_timeout=IDLE_LIMIT_S,
            body_timeout=BODY_LIMIT_S,
        )
        self.audit = Audit()
        self._path: Path | None = None
        self._inode = 0
        self._passed_address = ""

    def start_request(self, _server_conn: object, request_conn: HTTPConnection) -> Exchange:
        """Create the handler of the next request of a connection."""
        return Exchange(self, request_conn)

    def find(self, method: str, path: str) -> tuple[Route, str]:
        """Find the route of a request, and the ``{name}`` in its path.

        Raises
        ------
        UsageError
            If no route matches the request.
        """
        methods, name = self._plain.get(path), ""
        for pattern, named_methods in () if methods else self._named:
            if match := pattern.fullmatch(path):
                methods, name = named_methods, unquote(match[1])
                break
        if methods is None:
            raise UsageError(
                f"{method} {path} is not a request of kconnd",
                hint="GET /v1/openapi.json lists the requests",
            )
        if method not in methods:
            raise UsageError(f"{path} does not support the method {method}")
        return methods[method], name

    def listen(self, path: Path, mode: int = 0o600) -> None:
        """Listen on a Unix socket, and replace the socket of a dead daemon.

        Raises
        ------
        LockedError
            If a live daemon listens on the path.
        UsageError
            If the path is too long.
        """
        check_socket_path(str(path), "use a shorter --socket or --runtime-dir")
        if path.is_socket() and _is_listening(path):
            raise LockedError(
                f"listening on {path}: another daemon is listening there",
                hint="kconnd-ctl doctor shows which one",
            )
        self.server.accept_from(
            tornado.netutil.bind_unix_socket(str(path), mode=mode, backlog=BACKLOG)
        )
        self._path, self._inode = path, path.stat().st_ino

    def listen_on(self, listener: socket.socket) -> None:
        """Listen on a socket that the service manager creates and removes."""
        self._passed_address = str(listener.getsockname())
        self.server.accept_from(listener)

    @property
    def is_listening(self) -> bool:
        """Whether the server has a socket."""
        return bool(self._path or self._passed_address)

    @property
    def connections(self) -> int:
        """The number of connected clients."""
        return sum(not stream.closed() for stream in self.server.callers)

    @property
    def address(self) -> str:
        """The address of the socket."""
        return self._passed_address or str(self._path)

    def restore_socket(self) -> None:
        """Create the server's socket again if it was removed; open connections are not affected."""
        if self._path is None:
            return
        if self._path.exists() and self._path.stat().st_ino == self._inode:
            return
        log.warning("the socket %s was removed; listening there again", self._path)
        self.listen(self._path)

    async def close(self) -> None:
        """Stop listening, and close all connections."""
        self.server.stop()
        for stream in list(self.server.callers):
            stream.close()  # close_all_connections() omits detached connections
        await self.server.close_all_connections()
        if self._path is not None:
            self._path.unlink(missing_ok=True)


def _pattern(path: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\{name\\}", "([^/]+)", re.escape(path)))


def _is_listening(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True
