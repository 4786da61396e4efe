"""Requests that schemathesis makes from an OpenAPI document, over a Unix socket."""

import contextlib
import os
import signal
import socket
import socketserver
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st


class Bridge(socketserver.ThreadingTCPServer):
    """Lets clients of TCP, on loopback, speak to a Unix socket."""

    daemon_threads = True

    def __init__(self, path: Path) -> None:
        super().__init__(("127.0.0.1", 0), Through)
        self.path = path


class Through(socketserver.BaseRequestHandler):
    """Copies bytes both ways until one side is done."""

    server: Bridge

    def handle(self) -> None:
        with socket.socket(socket.AF_UNIX) as there:
            there.connect(str(self.server.path))
            back = threading.Thread(target=self.copy, args=(there, self.request))
            back.start()
            self.copy(self.request, there)
            back.join()

    @staticmethod
    def copy(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while text := source.recv(1 << 16):
                target.sendall(text)
            target.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def bridged(path: Path) -> Iterator[str]:
    """Give an address by which a Unix socket can be asked."""
    with Bridge(path) as bridge:
        threading.Thread(target=bridge.serve_forever).start()
        try:
            yield f"http://127.0.0.1:{bridge.server_address[1]}"
        finally:
            bridge.shutdown()


@contextlib.contextmanager
def bridged_as(path: Path, uid: int) -> Iterator[str]:
    """Do so from a process of another user, since a socket's peer is who connects."""
    with Bridge(path) as bridge:
        child = os.fork()
        if child == 0:
            os.setuid(uid)
            bridge.serve_forever()
        try:
            yield f"http://127.0.0.1:{bridge.server_address[1]}"
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def ask_by_document(url: str, document: dict[str, Any], names: Sequence[str | None]) -> int:
    """Ask whatever a document allows, and see that the answer is one; tell how often.

    Parameters
    ----------
    names : sequence of str or None
        Names for ``{name}`` in paths; None for what schemathesis makes up.
    """
    schema, asked = schemathesis.openapi.from_dict(document), 0
    for found in schema.get_all_operations():
        operation = found.ok()  # type: ignore[union-attr]  # our document is sound
        if operation.path.endswith("/wait"):
            continue  # it does as it is told

        @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy(), name=st.sampled_from(names))
        def check(case: schemathesis.Case[Any], name: str | None) -> None:
            nonlocal asked
            asked += 1
            if name is not None and "name" in case.path_parameters:
                case.path_parameters["name"] = name
            case.query.pop("follow", None)
            reply = case.call(base_url=url, timeout=30)
            assert reply.status_code < 500 or "error" in reply.json()
            assert b"internal error of the daemon" not in reply.content

        check()
    return asked
