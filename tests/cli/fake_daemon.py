"""A daemon without kernels: speaks the socket's API from a table of replies, on a real socket.

A reply is JSON, a stream of JSON lines, an error, raw bytes, or a function of the request
that gives one of these. Every request is kept, so that a test can see what was asked.
"""

import json
import os
import socket
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any, Self

from kconnd.errors import KconndError, NoSuchKernelError
from kconnd.system.machine import own_user

KEY = "c0ffee-secret-key"


@dataclass(frozen=True)
class Request:
    """What the client sent."""

    method: str
    path: str
    query: str
    body: Any


def without_session(body: Any) -> Any:
    """Return a body without the session of the client, which has tests of its own."""
    return {key: value for key, value in body.items() if key != "session"}


@dataclass(frozen=True)
class Raw:
    """Bytes to send as they are, in pieces."""

    pieces: tuple[bytes, ...]


@dataclass(frozen=True)
class Stream:
    """JSON lines, each in a chunk of its own."""

    lines: tuple[Any, ...]


@dataclass
class FakeDaemon:
    """Answers on a socket until it is left."""

    path: Path
    replies: dict[tuple[str, str], Any] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    kernels: dict[str, dict[str, Any]] = field(default_factory=dict)
    elsewhere: list[dict[str, Any]] = field(default_factory=list)
    buffering: int = -1  # 0 to take no more than one request from a connection

    def __enter__(self) -> Self:
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(self.path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept
        self._thread.join()
        self._listener.close()

    def add(self, name: str, **fields: Any) -> dict[str, Any]:
        """Have a kernel: running and idle, but for the fields that are given."""
        self.kernels[name] = kernel(name, **fields)
        return self.kernels[name]

    def asked(self) -> list[tuple[str, str]]:
        """Tell method and path of each request."""
        return [(one.method, one.path) for one in self.requests]

    def _serve(self) -> None:
        workers = []
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                break
            workers.append(threading.Thread(target=self._answer, args=(connection,)))
            workers[-1].start()
        for worker in workers:
            worker.join()

    def _answer(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb", self.buffering) as reader:
            try:
                request = _read(reader)
                if request is None:
                    return
                self.requests.append(request)
                for piece in _encoded(self._reply(request)):
                    connection.sendall(piece)
            except (BrokenPipeError, ConnectionResetError):
                pass  # the client has what it wanted

    def _reply(self, request: Request) -> Any:
        found = self.replies.get((request.method, request.path), self._default)
        if isinstance(found, Callable):  # type: ignore[arg-type]  # mypy wants a type here
            found = found(request)
        return found

    def _default(self, request: Request) -> Any:
        if request.path == "/v1/kernels":
            return {"kernels": list(self.kernels.values()), "elsewhere": self.elsewhere}
        if request.path == "/v1/health":
            return {"version": "1", "pid": os.getpid(), "uid": os.getuid(), "running": 0}
        name, _, verb = request.path.removeprefix("/v1/kernels/").partition("/")
        if name not in self.kernels:
            return NoSuchKernelError(f"there is no kernel {name}", hint="kconnd-ctl list")
        if verb == "connection":
            return {"key": KEY, "transport": "ipc"}
        return self.kernels[name]


def kernel(name: str, **fields: Any) -> dict[str, Any]:
    """Give what the daemon tells of a running kernel."""
    ports = {f"{one}_port": 1 for one in ("shell", "iopub", "stdin", "control", "hb")}
    usual = {
        "name": name,
        "profile": name.partition("@")[0],
        "owner": own_user().name,
        "state": "running",
        "wanted": "up",
        "reason": "it answered",
        "pid": 4711,
        "generation": 1,
        "restarts": 0,
        "started_at": "2026-11-23T09:50:00.000Z",
        "ready_after": 0.5,
        "launcher": "local",
        "kernel_name": "python3",
        "language": "python",
        "connection_file": f"/run/x/kernel-{name}.json",
        "connection": {
            "transport": "ipc",
            "ip": "/run/x/k",
            **ports,
            "signature_scheme": "hmac-sha256",
            "kernel_name": "python3",
            "encrypted": False,
        },
        "heartbeat": {"state": "alive", "last_at": None},
        "execution_state": "idle",
        "last_activity": "2026-11-23T09:50:00.000Z",
        "memory": 48 << 20,
        "last_exit": None,
        "log_file": f"/var/x/{name}.log",
        "profile_status": "current",
        "next_attempt_at": None,
        "warnings": [],
    }
    return usual | fields


# The fields of a kernel that never ran.
STOPPED: dict[str, Any] = {
    **dict.fromkeys(("pid", "started_at", "ready_after", "launcher", "connection_file")),
    **dict.fromkeys(("connection", "execution_state", "last_activity", "memory")),
    "state": "stopped",
    "wanted": "down",
    "generation": 0,
    "reason": "",
}


def _read(reader: Any) -> Request | None:
    line = reader.readline().decode()
    if not line:
        return None
    method, target, _ = line.split(" ", 2)
    length = 0
    while header := reader.readline().strip():
        if header.lower().startswith(b"content-length:"):
            length = int(header.split(b":")[1])
    path, _, query = target.partition("?")
    body = reader.read(length)
    return Request(method, path, query, json.loads(body) if body else None)


def _encoded(reply: Any) -> Iterable[bytes]:
    if isinstance(reply, Raw):
        return reply.pieces
    if isinstance(reply, Stream):
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        return (head, *(chunk(json.dumps(one).encode() + b"\n") for one in reply.lines), chunk(b""))
    if isinstance(reply, KconndError):
        told = {"code": reply.code, "message": reply.message, "hint": reply.hint}
        told |= {"output": reply.output, "owner": getattr(reply, "owner", "")}
        told |= {"names": vars(reply).get("names", ())}
        return (whole(json.dumps({"error": told}).encode(), reply.http_status),)
    return (whole(json.dumps(reply).encode()),)


def chunk(text: bytes) -> bytes:
    """Frame a chunk (RFC 9112, section 7.1)."""
    return f"{len(text):x}\r\n".encode() + text + b"\r\n"


def whole(text: bytes, status: int = HTTPStatus.OK) -> bytes:
    """Frame a reply of known length."""
    return f"HTTP/1.1 {status} X\r\nContent-Length: {len(text)}\r\n\r\n".encode() + text
