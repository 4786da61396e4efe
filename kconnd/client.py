"""Talk to a kconnd daemon: HTTP/1.1 and JSON on a Unix socket, with the standard library only.

Rules. Nothing is imported that costs a look-up its milliseconds: http.client takes 30, socket
and json ten, of which the parts written in C are enough. The server is checked before a word is
sent: its uid, from the operating system, must be ours, root's, or one that the caller names.
What it sends is bounded and never trusted to be well formed. Each text of a request is checked
where it is written (`kconnd.core.protocol.request_head`).

Whose daemon a request goes to is decided here alone. A bare name goes to the caller's own
daemon, ``OWNER/NAME`` to the daemon of a user whom the system's user database knows. Only the
caller's own daemon may say that a bare name is another owner's (`ElsewhereError`), and that is
followed once. A daemon of another owner redirects nothing, whatever it replies, and of its
reply only known fields are taken (`kconnd.core.untrusted_reply`).

Example::

    client = Client(find_socket(os.environ))
    print(client.get("/v1/kernels/mykernel")["connection"])
"""

from __future__ import annotations

import _socket
import io
import os
import sys
import time

from kconnd.core.protocol.request_head import quote, request_head, unquote
from kconnd.errors import (
    ElsewhereError,
    KconndError,
    NoSuchKernelError,
    RefusedError,
    UnreachableError,
    error_class,
)

TYPE_CHECKING = False  # typing's own would cost more than the rest of this file
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any, BinaryIO, Self

    from _typeshed import WriteableBuffer

    Opener = Callable[[], BinaryIO]

MAX_LINE = 64 << 10  # bytes of one header line, or of a chunk's size
MAX_HEADERS = 100
MAX_REPLY = 64 << 20  # bytes of a reply that is not a stream, and of one line of a stream
MAX_FOREIGN_REPLY = 4 << 20  # bytes of a whole reply of another owner's daemon
LOOK_LIMIT = 60.0  # seconds of silence after which a look-up gives up; of another owner, of all
CONNECT_LIMIT_S = 60  # for the queue of another owner's listener to have room
DIGITS = 18  # of a status or a length; more is nonsense, and int() has limits of its own
KERNELS = "/v1/kernels/"
SUCCESS, REDIRECTS, ERRORS = 200, 300, 400  # the first HTTP statuses of these kinds
HINT = "kconnd-ctl start NAME starts one; kconnd-ctl doctor looks for what is wrong"


def socket_candidates(env: Mapping[str, str], uid: int) -> Iterator[str]:
    """List where a user's daemon may listen, the likelier place first.

    The daemon chooses by whether its user lingers, which may have changed since. cron and su
    set no ``XDG_RUNTIME_DIR``; then it is where systemd makes it (pam_systemd(8)). A folder below
    /tmp that another user took is left out; what the daemon uses instead comes last, since /tmp
    is read for it.
    """
    from kconnd.core.paths import SOCKET_NAME, runtime_dir  # noqa: PLC0415  # not with KCONND_SOCKET
    from kconnd.private_tmp import fallback_folders, is_occupied  # noqa: PLC0415  # the same

    env = {"XDG_RUNTIME_DIR": env.get("XDG_RUNTIME_DIR") or f"/run/user/{uid}"}
    places = (runtime_dir(env, uid, lingers=lingers) for lingers in (True, False))
    yield from (f"{place}/{SOCKET_NAME}" for place in places if not is_occupied(place, uid))
    yield from (f"{place}/{SOCKET_NAME}" for place in fallback_folders(uid))


def find_socket(env: Mapping[str, str], given: str = "") -> str:
    """Find the socket of our daemon.

    Parameters
    ----------
    env : mapping
        The environment: ``KCONND_SOCKET`` names a socket, ``XDG_RUNTIME_DIR`` a folder.
    given : str
        A path that goes before all else.

    Returns
    -------
    str
        The first at which something listens, or else the likeliest.
    """
    named = given or env.get("KCONND_SOCKET", "")
    if named:
        return named
    from kconnd.core.paths import FRONT_SOCKET, owner_socket  # noqa: PLC0415  # the same

    if os.path.exists(FRONT_SOCKET):
        own = owner_socket(os.geteuid())
        if not os.path.exists(own):
            _open_socket("self")
        return own
    last = ""
    for last in socket_candidates(env, os.geteuid()):
        if listens(last):
            return last
    return last


def _open_socket(owner: str) -> None:
    """Have the front door open an owner's socket: ``self``, or a uid's digits."""
    from kconnd.core.paths import FRONT_SOCKET  # noqa: PLC0415  # most look-ups need none

    Client(FRONT_SOCKET).post(f"/v1/owners/{quote(owner)}/open")


def listens(path: str) -> bool:
    """Tell whether anything accepts connections on a socket."""
    with _Connection() as probe:
        try:
            probe.connect(path)
        except OSError:
            return False
        return True


class _Connection(_socket.socket):
    """A Unix socket with the little that a request needs of `socket.socket`."""

    owner = -1  # the uid whose daemon is on the other end
    deadline: float | None = None  # on the monotonic clock, for all of a reply

    def __init__(self) -> None:
        super().__init__(_socket.AF_UNIX, _socket.SOCK_STREAM)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def bound_connecting(self, limit: int) -> None:
        """Wait no longer than these seconds for a listener whose queue is full (unix(7)).

        Such a wait has the time limit of sending; a socket with a time limit of Python's would
        not wait at all.
        """
        from struct import pack  # noqa: PLC0415  # only for another owner's daemon

        self.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDTIMEO, pack("ll", limit, 0))

    def reader(self) -> BinaryIO:
        """Give a file to read from it."""
        return io.BufferedReader(_Incoming(self))


class _Incoming(io.RawIOBase):
    """What comes over a connection, for a reader that takes it in larger pieces."""

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        if self._connection.deadline is not None:
            left = self._connection.deadline - time.monotonic()
            self._connection.settimeout(max(left, 0.001))  # 0 would be not to wait at all
        return self._connection.recv_into(buffer)


class Client:
    """A daemon's clients: each request has a connection of its own.

    Parameters
    ----------
    path : str
        The daemon's socket.
    owner : int, optional
        The uid whose daemon it is; without one it is the caller's own, or root's.
    most : int
        Bytes of a reply that are read.
    """

    def __init__(self, path: str, owner: int | None = None, *, most: int = MAX_REPLY) -> None:
        self.path = path
        self._most = most
        self._owner = os.geteuid() if owner is None else owner

    def get(self, path: str, *, limit: float | None = LOOK_LIMIT) -> Any:
        """Make a GET request; see `request`."""
        return self.request("GET", path, limit=limit)

    def post(self, path: str, body: Mapping[str, object] | None = None) -> Any:
        """Make a POST request; see `request`."""
        return self.request("POST", path, body or {})

    def request(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | None = None,
        *,
        limit: float | None = None,
    ) -> Any:
        """Make a request and give what the daemon replies.

        Parameters
        ----------
        method, path : str
            As the daemon's ``/v1/openapi.json`` lists them; `kernel_path` makes those of kernels.
        body : mapping, optional
            To be sent as JSON.
        limit : float, optional
            Seconds of silence to bear; without it, as long as it takes.

        Raises
        ------
        UnreachableError
            If no daemon answers, or what answers is none.
        RefusedError
            If the daemon is somebody else's.
        KconndError
            Of the kind that the daemon's error has.
        """
        client, target = self._placed(path)
        try:
            return client._exchange(method, target, body, limit)  # noqa: SLF001  # of our own kind
        except ElsewhereError as error:
            if not _may_follow(error, path):
                raise
            owner = error.owner
        return _client_of(owner)._exchange(method, path, body, limit)  # noqa: SLF001  # as above

    def _exchange(
        self, method: str, path: str, body: Mapping[str, object] | None, limit: float | None
    ) -> Any:
        with self._connected() as connection, connection.reader() as reply:
            connection.settimeout(limit)
            if limit is not None and _is_foreign(connection.owner):
                connection.deadline = time.monotonic() + limit
            self._send(connection, method, path, body)
            most = self._limit(connection.owner)
            status, pieces = self._read_head(reply, most)
            content = self._result(status, self._whole(pieces, most), connection.owner)
            return self._believed(path, content, connection.owner)

    def _placed(self, path: str) -> tuple[Client, str]:
        """Take the owner off a kernel's ``OWNER/NAME``, and give the client of their daemon."""
        start, slash, rest = path.partition("%2F")
        owner = start.removeprefix(KERNELS)
        if not slash or owner == start or "/" in owner or not has_front_door():
            return self, path
        return _client_of(unquote(owner)), KERNELS + rest

    def stream(self, path: str) -> Iterator[Any]:
        """Make a GET request and give each line of the reply as it comes.

        Raises
        ------
        As `request`; a stream that is cut off ends in UnreachableError.
        """
        client, target = self._placed(path)
        try:
            yield from client._stream(target)  # noqa: SLF001  # of our own kind
        except ElsewhereError as error:  # it comes before any line
            if not _may_follow(error, path):
                raise
            owner = error.owner
        else:
            return
        yield from _client_of(owner)._stream(path)  # noqa: SLF001  # of our own kind

    def _stream(self, path: str) -> Iterator[Any]:
        with self._connected() as connection, connection.reader() as reply:
            self._send(connection, "GET", path, None)
            status, pieces = self._read_head(reply, self._most)
            if status >= ERRORS:
                most = self._limit(connection.owner)
                self._result(status, self._whole(pieces, most), connection.owner)
            rest = b""
            for piece in pieces:
                *lines, rest = (rest + piece).split(b"\n")
                if len(rest) > self._most:
                    raise self._garbled("a line does not end")
                for line in lines:
                    yield self._believed(path, self._parse(line), connection.owner)
            if rest:
                yield self._believed(path, self._parse(rest), connection.owner)

    # --- the parts of a request

    def _connected(self) -> _Connection:
        connection = _Connection()
        try:
            if _is_foreign(self._owner):
                connection.bound_connecting(CONNECT_LIMIT_S)
            connection.connect(self.path)
            connection.owner = self._checked_owner(connection)
        except OSError as error:
            connection.close()
            why = error.strerror or error
            raise UnreachableError(
                f"no kconnd daemon answers on {self.path}: {why}", hint=HINT
            ) from None
        except KconndError:
            connection.close()
            raise
        return connection

    def _checked_owner(self, connection: _Connection) -> int:
        """Give the uid whose daemon answers; refuse a server that another user planted.

        The operating system says who listens (SO_PEERCRED, unix(7)). For a socket that systemd
        has made for an owner's daemon that is root, so there the socket's own name decides.
        """
        # struct ucred: pid, uid, gid, four bytes each
        raw = connection.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)
        uid = int.from_bytes(raw[4:8], sys.byteorder)
        if uid == 0:
            return _owner_by_name(connection.getpeername(), self._owner)
        if uid not in {os.geteuid(), self._owner}:
            raise RefusedError(
                f"what listens on {self.path} belongs to uid {uid}, so nothing was sent to it",
                hint="name the right socket with --socket or KCONND_SOCKET",
            )
        return self._owner

    def _send(
        self,
        connection: _Connection,
        method: str,
        path: str,
        body: Mapping[str, object] | None,
    ) -> None:
        content = b"" if body is None else _to_json(body)
        head = request_head(method, path, len(content))
        try:
            connection.sendall(head + content)
        except BrokenPipeError:
            pass  # it may have replied before it hung up
        except OSError as error:
            raise self._garbled(str(error)) from None

    def _read_head(self, reply: BinaryIO, most: int) -> tuple[int, Iterator[bytes]]:
        version, _, rest = self._line(reply).partition(b" ")
        status = _natural(rest[:3])
        if not version.startswith(b"HTTP/1.") or status is None:
            raise self._garbled("it does not speak HTTP")
        if not (SUCCESS <= status < REDIRECTS or status >= ERRORS):
            raise self._garbled(f"HTTP status {status}, which no daemon gives")
        headers = self._headers(reply)
        if headers.get(b"transfer-encoding") == b"chunked":
            return status, self._chunks(reply, most)
        length = _natural(headers.get(b"content-length", b"0"))
        if length is None or length > most:
            raise self._garbled("its reply has no sensible length")
        return status, iter((self._exactly(reply, length),))

    def _headers(self, reply: BinaryIO) -> dict[bytes, bytes]:
        headers: dict[bytes, bytes] = {}
        for _ in range(MAX_HEADERS):
            line = self._line(reply).strip()
            if not line:
                return headers
            key, _, value = line.partition(b":")
            headers[key.strip().lower()] = value.strip().lower()
        raise self._garbled("its headers do not end")

    def _chunks(self, reply: BinaryIO, most: int) -> Iterator[bytes]:
        """Take a chunked body apart (RFC 9112, section 7.1)."""
        while True:
            try:
                size = int(self._line(reply).partition(b";")[0], 16)
            except ValueError:
                raise self._garbled("a chunk has no length") from None
            if not 0 <= size <= most:
                raise self._garbled("a chunk has no sensible length")
            if size == 0:
                return
            yield self._exactly(reply, size)
            self._line(reply)

    def _limit(self, owner: int) -> int:
        """Give the bytes of a whole reply that are read of an owner's daemon."""
        return min(self._most, MAX_FOREIGN_REPLY) if _is_foreign(owner) else self._most

    def _whole(self, pieces: Iterator[bytes], most: int) -> bytes:
        """Put a reply together, up to a limit."""
        text = bytearray()
        for piece in pieces:
            text += piece
            if len(text) > most:
                raise self._garbled("its reply does not end")
        return bytes(text)

    def _line(self, reply: BinaryIO) -> bytes:
        try:
            line = reply.readline(MAX_LINE)
        except OSError as error:
            raise self._garbled(str(error)) from None
        if not line.endswith(b"\n"):
            raise self._garbled("it hung up before its reply was complete")
        return line

    def _exactly(self, reply: BinaryIO, size: int) -> bytes:
        try:
            text = reply.read(size)
        except OSError as error:
            raise self._garbled(str(error)) from None
        if len(text) < size:
            raise self._garbled("it hung up before its reply was complete")
        return text

    def _result(self, status: int, text: bytes, owner: int) -> Any:
        content = self._parse(text)
        if status < ERRORS:
            return content
        told = content.get("error") if isinstance(content, dict) else None
        if not isinstance(told, dict):
            raise self._garbled(f"HTTP status {status} without a reason")
        if _is_foreign(owner):
            from kconnd.core.untrusted_reply import validate_error  # noqa: PLC0415  # only for this

            raise validate_error(told, _name_of(owner))
        error = error_class(str(told.get("code")))(
            str(told.get("message", "")),
            hint=str(told.get("hint", "")),
            output=str(told.get("output", "")),
        )
        if isinstance(error, ElsewhereError):
            error.owner = str(told.get("owner", ""))
        raise error

    def _believed(self, path: str, content: Any, owner: int) -> Any:
        """Take what makes sense of a reply; that of one's own daemon is taken whole."""
        if not _is_foreign(owner):
            return content
        from kconnd.core.untrusted_reply import validate_reply  # noqa: PLC0415  # only for this

        return validate_reply(path, content, owner, _name_of(owner), _user_of)

    def _parse(self, text: bytes) -> Any:
        try:
            return parse_json(text)
        except (ValueError, RecursionError):  # the latter for a thousand brackets
            raise self._garbled("its reply is not JSON") from None

    def _garbled(self, what: str) -> UnreachableError:
        return UnreachableError(
            f"talking to the daemon on {self.path}: {what}",
            hint="it may have been ended just now; ask again, or see its log",
        )


def has_front_door() -> bool:
    """Tell whether this machine has kconnd as a system service."""
    from kconnd.core.paths import FRONT_SOCKET  # noqa: PLC0415  # most look-ups need none

    return os.path.exists(FRONT_SOCKET)


def _may_follow(error: ElsewhereError, path: str) -> bool:
    """Tell whether a request is made again at the daemon of the owner that an error names.

    Only the caller's own daemon names one (`Client._result`). Where the caller has named the
    owner, nobody else is asked.
    """
    bare = path.startswith(KERNELS) and "%2F" not in path
    return bool(error.owner) and bare and has_front_door()


def _client_of(owner: str) -> Client:
    """Give the client of another owner's daemon, whose socket the front door opens if need be.

    Raises
    ------
    NoSuchKernelError
        If the system's user database does not know the owner.
    """
    from kconnd.core.paths import owner_socket  # noqa: PLC0415  # most look-ups need none

    uid = _find_uid(owner)
    _open_socket(str(uid))
    return Client(owner_socket(uid), uid)


def _find_uid(owner: str) -> int:
    """Find a user's uid by name or number in the system's user database (getpwnam(3))."""
    import pwd  # noqa: PLC0415  # only for another owner's kernels

    try:
        is_number = owner.isascii() and owner.isdecimal()
        user = pwd.getpwuid(int(owner)) if is_number else pwd.getpwnam(owner)
    except (KeyError, ValueError, OverflowError):
        raise NoSuchKernelError(
            f"there is no user {owner!r} on this machine", hint="kernels are named OWNER/NAME"
        ) from None
    return user.pw_uid


def _is_foreign(owner: int) -> bool:
    """Tell whether a daemon is another user's, so that its replies are not trusted."""
    return owner != os.geteuid()


def _user_of(pid: int) -> int | None:
    """Give the uid of a process; None where there is none to be seen (proc(5))."""
    try:
        return os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return None


def _name_of(uid: int) -> str:
    import pwd  # noqa: PLC0415  # only for another owner's kernels

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _owner_by_name(path: str | bytes, default: int) -> int:
    """Read the owner off the name of a socket that systemd made; ``default`` for any other."""
    from kconnd.core.paths import OWNER_SOCKETS_DIR  # noqa: PLC0415  # most look-ups need none

    folder, _, name = os.fsdecode(path).rpartition("/")
    return int(name) if folder == OWNER_SOCKETS_DIR and name.isdecimal() else default


def _to_json(body: Mapping[str, object]) -> bytes:
    import json  # noqa: PLC0415  # look-ups send none

    return json.dumps(body).encode()


class _Json:
    """How JSON is read: by default, as `json.JSONDecoder` tells the scanner written in C."""

    strict = True
    object_hook = object_pairs_hook = array_hook = None
    parse_int, parse_float, parse_constant = int, float, float


def parse_json(text: bytes) -> Any:
    """Read JSON as `json.loads` does, which is imported where there is anything unusual.

    Raises
    ------
    ValueError, RecursionError
        As `json.loads`.
    """
    try:
        from _json import make_scanner  # noqa: PLC0415  # not every Python has it

        whole = text.decode()
        content, end = make_scanner(_Json)(whole, 0)  # type: ignore[arg-type]  # it is a template
        if end == len(whole):
            return content
    except (ImportError, AttributeError, StopIteration, ValueError):
        pass
    import json  # noqa: PLC0415  # see the head of this file

    return json.loads(text)


def _natural(text: bytes) -> int | None:
    """Read a number without sign, or tell that it is none."""
    return int(text) if text.isdigit() and len(text) <= DIGITS else None


def kernel_path(name: str, verb: str = "") -> str:
    """Give the path of a kernel, or of something to ask of it: ``/v1/kernels/NAME/VERB``."""
    return f"{KERNELS}{quote(name)}" + (f"/{verb}" if verb else "")
