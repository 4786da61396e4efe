"""The client of a kconnd daemon: HTTP/1.1 and JSON on a Unix socket.

Rules. This package imports only the standard library, and a look-up, which is a GET request,
imports no slow module. Importing http.client takes 30 ms, and importing socket and json takes 10 ms
each. This package therefore parses HTTP itself, and uses `_socket` and `_json`, the parts of socket
and json that are written in C. Before the client sends anything, it checks the user of the server:
the operating system reports the uid, which must be that of the caller, of root, or of the owner
that the caller names. The size of a reply is limited, and the syntax of a reply is checked.
`kconnd.core.protocol.request_head` validates every text in the head of a request.

This package chooses the daemon that a request goes to. A request for ``NAME`` goes to the caller's
own daemon. A request for ``OWNER/NAME`` goes to the daemon of OWNER, a user in the system's user
database. The caller's own daemon can redirect a request for ``NAME`` to another owner's daemon
(`ElsewhereError`). The client follows one redirect. If another owner's daemon redirects a request,
the request fails. In a reply of another owner's daemon, unknown fields are dropped
(`kconnd.core.untrusted_reply`).

A request that may launch a kernel (`Client.launch`) contains the session of this process
(`kconnd.core.launch.session`). It is sent to the caller's own daemon only.

Modules: `caller_session` collects the session. `unix_connection` connects and checks the server.
`http_reply` parses replies. `other_owners` looks up other owners and validates the replies of their
daemons; this package imports `other_owners` when a request to another owner's daemon needs it.

Example::

    client = Client(find_socket(os.environ))
    print(client.get("/v1/kernels/mykernel")["connection"])
"""

from __future__ import annotations

import os
import time

from kconnd.client.http_reply import ERROR_STATUS, HttpReply, garbled_reply, parse_json
from kconnd.client.unix_connection import (
    CONNECT_LIMIT_S,
    is_foreign,
    listens,
    open_connection,
)
from kconnd.core.protocol.request_head import quote, request_head, unquote
from kconnd.errors import ElsewhereError, SessionWantedError, error_class

TYPE_CHECKING = False  # importing typing takes longer than importing the rest of this module
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from kconnd.client.unix_connection import UnixConnection

__all__ = [
    "MAX_FOREIGN_REPLY_BYTES",
    "MAX_REPLY_BYTES",
    "Client",
    "find_socket",
    "has_front_door",
    "kernel_path",
    "listens",
    "name_in_reply",
    "owner_client",
    "parse_json",
    "socket_candidates",
]

MAX_REPLY_BYTES = 64 << 20  # the limit of a reply, and of one line of a streamed reply
MAX_FOREIGN_REPLY_BYTES = 4 << 20  # the limit of a whole reply of another owner's daemon
# The limit of a daemon's silence during a look-up. For another owner's daemon, it is the limit of
# the whole look-up.
LOOKUP_LIMIT_S = 60.0
KERNELS = "/v1/kernels/"
SESSION = "session"  # the field of a body; sent to the caller's own daemon only


class Client:
    """The client of one daemon; each request uses its own connection.

    Parameters
    ----------
    path : str
        The daemon's socket.
    owner : int, optional
        The uid of the daemon's owner; by default, the caller's uid.
    most : int
        The limit of the size of a reply, in bytes.
    """

    def __init__(self, path: str, owner: int | None = None, *, most: int = MAX_REPLY_BYTES) -> None:
        self.path = path
        self._max_reply_bytes = most
        self._owner = os.geteuid() if owner is None else owner

    def get(self, path: str, *, limit: float | None = LOOKUP_LIMIT_S) -> Any:
        """Send a GET request; see `request`."""
        return self.request("GET", path, limit=limit)

    def post(self, path: str, body: Mapping[str, object] | None = None) -> Any:
        """Send a POST request; see `request`."""
        return self.request("POST", path, body or {})

    def launch(
        self,
        name: str,
        verb: str = "start",
        body: Mapping[str, object] | None = None,
        *,
        limit: float | None = None,
    ) -> Any:
        """Send a request that may launch a kernel, with the session of this process.

        If the kernel's profile passes more variables of the session to the kernel, the daemon
        requests them, and the request is repeated with them.

        Parameters
        ----------
        name, verb : str
            The kernel, and ``start`` or ``restart``.
        body, limit
            See `request`.
        """
        from kconnd.client.caller_session import caller_session  # noqa: PLC0415  # not for look-ups

        path, fields = kernel_path(name, verb), dict(body or {})
        try:
            return self.request("POST", path, {**fields, SESSION: caller_session()}, limit=limit)
        except SessionWantedError as error:
            if not error.names:
                raise
            session = caller_session(error.names)
        return self.request("POST", path, {**fields, SESSION: session}, limit=limit)

    def request(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | None = None,
        *,
        limit: float | None = None,
    ) -> Any:
        """Send a request and return the daemon's reply.

        Parameters
        ----------
        method, path : str
            The method and the path, as in the daemon's ``/v1/openapi.json``; `kernel_path` builds
            paths of kernels.
        body : mapping, optional
            The content, which is sent as JSON.
        limit : float, optional
            The request fails if the daemon sends nothing for this many seconds; by default, there
            is no limit. With another owner's daemon, the limit applies to the whole reply: the
            request fails if the reply is not complete after this many seconds.

        Raises
        ------
        UnreachableError
            If no daemon answers, or if the reply is malformed.
        RefusedError
            If another user listens on the socket.
        KconndError
            If the daemon reports an error; the error's code determines the subclass.
        """
        client, target = self._resolve(path)
        try:
            return client._request_once(method, target, body, limit)  # noqa: SLF001  # a Client
        except ElsewhereError as error:
            if not _may_follow(error, path):
                raise
            owner = error.owner
        return owner_client(owner)._request_once(method, path, body, limit)  # noqa: SLF001  # a Client

    def stream(self, path: str) -> Iterator[Any]:
        """Send a GET request and yield each line of the reply as it arrives.

        Raises
        ------
        KconndError
            In the cases that `request` lists. A stream that ends too early raises UnreachableError.
        """
        client, target = self._resolve(path)
        try:
            yield from client._stream_once(target)  # noqa: SLF001  # a Client
        except ElsewhereError as error:  # raised, if at all, before the first line
            if not _may_follow(error, path):
                raise
            owner = error.owner
        else:
            return
        yield from owner_client(owner)._stream_once(path)  # noqa: SLF001  # a Client

    # --- one request, without redirects

    def _resolve(self, path: str) -> tuple[Client, str]:
        """Return the client and the path for a request.

        For ``OWNER/NAME``, these are a client of the owner's daemon and the path of ``NAME``.
        """
        start, slash, end = path.partition("%2F")
        owner = start.removeprefix(KERNELS)
        if not slash or owner == start or "/" in owner or not has_front_door():
            return self, path
        return owner_client(unquote(owner)), KERNELS + end

    def _request_once(
        self, method: str, path: str, body: Mapping[str, object] | None, limit: float | None
    ) -> Any:
        with self._connect(limit) as connection, connection.reader() as stream:
            connection.settimeout(limit)
            if limit is not None and is_foreign(connection.owner):
                connection.deadline = time.monotonic() + limit
            if body is not None and is_foreign(connection.owner):
                body = {key: value for key, value in body.items() if key != SESSION}
            self._send(connection, method, path, body)
            reply = HttpReply(stream, self.path, self._limit_for(connection.owner))
            content = self._content(path, reply, connection.owner)
            return self._checked(path, content, connection.owner)

    def _stream_once(self, path: str) -> Iterator[Any]:
        with self._connect() as connection, connection.reader() as stream:
            self._send(connection, "GET", path, None)
            reply = HttpReply(stream, self.path, self._max_reply_bytes)
            if reply.status >= ERROR_STATUS:
                reply.max_bytes = self._limit_for(connection.owner)
                self._content(path, reply, connection.owner)
            for content in reply.lines():
                yield self._checked(path, content, connection.owner)

    def _connect(self, limit: float | None = None) -> UnixConnection:
        limit = CONNECT_LIMIT_S if limit is None else min(limit, CONNECT_LIMIT_S)
        return open_connection(self.path, self._owner, limit)

    def _send(
        self,
        connection: UnixConnection,
        method: str,
        path: str,
        body: Mapping[str, object] | None,
    ) -> None:
        content = b"" if body is None else _to_json(body)
        head = request_head(method, path, len(content))
        try:
            connection.sendall(head + content)
        except BrokenPipeError:
            pass  # the daemon may have replied before it closed the connection
        except OSError as error:
            raise garbled_reply(self.path, str(error)) from None

    # --- the reply

    def _limit_for(self, owner: int) -> int:
        """Return the limit, in bytes, of the size of a reply from an owner's daemon."""
        if is_foreign(owner):
            return min(self._max_reply_bytes, MAX_FOREIGN_REPLY_BYTES)
        return self._max_reply_bytes

    def _content(self, path: str, reply: HttpReply, owner: int) -> Any:
        """Return the parsed content of a whole reply; raise the error that the reply reports."""
        content = reply.content()
        if reply.status < ERROR_STATUS:
            return content
        fields = content.get("error") if isinstance(content, dict) else None
        if not isinstance(fields, dict):
            raise garbled_reply(self.path, f"HTTP status {reply.status} without a reason")
        if is_foreign(owner):
            from kconnd.client.other_owners import foreign_error  # noqa: PLC0415  # see the head

            raise foreign_error(fields, owner, path)
        error = error_class(str(fields.get("code")))(
            str(fields.get("message", "")),
            hint=str(fields.get("hint", "")),
            output=str(fields.get("output", "")),
        )
        if isinstance(error, ElsewhereError):
            error.owner = str(fields.get("owner", ""))
        if isinstance(error, SessionWantedError):
            error.names = tuple(map(str, fields.get("names", ())))
        raise error

    @staticmethod
    def _checked(path: str, content: Any, owner: int) -> Any:
        """Validate content from another owner's daemon; return other content unchanged."""
        if not is_foreign(owner):
            return content
        from kconnd.client.other_owners import foreign_reply  # noqa: PLC0415  # see the head

        return foreign_reply(path, content, owner)


def kernel_path(name: str, verb: str = "") -> str:
    """Return the path of a kernel: ``/v1/kernels/NAME``, or with a verb ``.../NAME/VERB``."""
    return f"{KERNELS}{quote(name)}" + (f"/{verb}" if verb else "")


def name_in_reply(name: str, kernel: Mapping[str, Any]) -> str:
    """Return a kernel's name from a reply, after the owner that the user has named.

    The user's spelling can differ: it can be Jupyter's name of the kernel's spec.
    """
    owner, slash, _ = name.rpartition("/")
    return f"{owner}{slash}{kernel['name']}"


def _to_json(body: Mapping[str, object]) -> bytes:
    import json  # noqa: PLC0415  # look-ups have no body

    return json.dumps(body).encode()


# --- choice of the daemon


def find_socket(env: Mapping[str, str], path: str = "") -> str:
    """Find the socket of the caller's own daemon.

    Parameters
    ----------
    env : mapping
        The environment: ``KCONND_SOCKET`` names a socket, and ``XDG_RUNTIME_DIR`` names the folder
        in which the daemon's own folder may be.
    path : str
        The path of a socket, which takes precedence over the environment; ``""`` for no path.

    Returns
    -------
    str
        ``path``, or the socket that ``KCONND_SOCKET`` names. If both are empty, the result depends
        on the machine. On a machine with the front door, it is the caller's socket, which the front
        door opens. On any other machine, it is the first of `socket_candidates` on which a process
        listens, or the last candidate if no process listens.
    """
    explicit = path or env.get("KCONND_SOCKET", "")
    if explicit:
        return explicit
    from kconnd.core.paths import FRONT_SOCKET, owner_socket  # noqa: PLC0415  # not if explicit

    if os.path.exists(FRONT_SOCKET):
        own_socket = owner_socket(os.geteuid())
        if not os.path.exists(own_socket):
            _open_socket("self")
        return own_socket
    candidate = ""
    for candidate in socket_candidates(env, os.geteuid()):
        if listens(candidate):
            return candidate
    return candidate


def socket_candidates(env: Mapping[str, str], uid: int) -> Iterator[str]:
    """Yield the paths on which a user's daemon can listen, the most likely path first.

    The folder of the socket depends on whether the user lingered (loginctl(1)) when the daemon
    started. cron and su set no ``XDG_RUNTIME_DIR``; in this case, the default is the folder that
    systemd creates (pam_systemd(8)). If another user owns ``/tmp/kconnd-UID``, this function skips
    this folder, because the daemon then uses a fallback folder (`kconnd.private_tmp`). Fallback
    folders come last, because the search for them has to list /tmp.
    """
    from kconnd.core.paths import SOCKET_NAME, runtime_dir  # noqa: PLC0415  # not with KCONND_SOCKET
    from kconnd.private_tmp import fallback_folders, is_occupied  # noqa: PLC0415  # not with KCONND_SOCKET

    env = {"XDG_RUNTIME_DIR": env.get("XDG_RUNTIME_DIR") or f"/run/user/{uid}"}
    folders = (runtime_dir(env, uid, lingers=lingers) for lingers in (True, False))
    yield from (f"{folder}/{SOCKET_NAME}" for folder in folders if not is_occupied(folder, uid))
    yield from (f"{folder}/{SOCKET_NAME}" for folder in fallback_folders(uid))


def has_front_door() -> bool:
    """Return whether kconnd is installed as a system service on this machine."""
    from kconnd.core.paths import FRONT_SOCKET  # noqa: PLC0415  # few look-ups need it

    return os.path.exists(FRONT_SOCKET)


def _open_socket(owner: str) -> None:
    """Let the front door open an owner's socket; ``owner`` is a uid or ``self``."""
    from kconnd.core.paths import FRONT_SOCKET  # noqa: PLC0415  # few look-ups need it

    Client(FRONT_SOCKET).post(f"/v1/owners/{quote(owner)}/open")


def _may_follow(error: ElsewhereError, path: str) -> bool:
    """Return whether to repeat a request with the daemon of the owner that the error names.

    The error names an owner only if the caller's own daemon reported the error (`Client._content`).
    A request for ``OWNER/NAME`` is never redirected.
    """
    is_bare = path.startswith(KERNELS) and "%2F" not in path
    return bool(error.owner) and is_bare and has_front_door()


def owner_client(owner: str) -> Client:
    """Return a client of an owner's daemon, after the front door has opened the daemon's socket.

    Raises
    ------
    NoSuchKernelError
        If the owner is not in the system's user database.
    """
    from kconnd.client.other_owners import find_uid  # noqa: PLC0415  # see the head
    from kconnd.core.paths import owner_socket  # noqa: PLC0415  # few look-ups need it

    uid = find_uid(owner)
    _open_socket(str(uid))
    return Client(owner_socket(uid), uid)
