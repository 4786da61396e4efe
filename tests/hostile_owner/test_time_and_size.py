"""A hostile owner costs a look-up a bounded time and a bounded amount of memory."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from kconnd.client import MAX_FOREIGN_REPLY_BYTES, Client, kernel_path
from kconnd.errors import UnreachableError
from tests.cli.fake_daemon import Raw, whole
from tests.hostile_owner.machine import EVE, NAME, Machine

PATH = kernel_path(f"{EVE}/{NAME}")


@pytest.fixture(name="trickler")
def _trickler(machine: Machine) -> Iterator[threading.Event]:
    """Make the hostile owner send a byte every 20 ms, until the event is set."""
    end = threading.Event()
    machine.eve.path.unlink()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(machine.eve.path))
    listener.listen()

    def trickle() -> None:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
            while not end.wait(0.02):
                connection.sendall(b" ")

    thread = threading.Thread(target=trickle)
    thread.start()
    yield end
    end.set()
    thread.join()
    listener.close()


def test_a_reply_that_trickles_ends_in_time(machine: Machine, trickler: threading.Event) -> None:
    before = time.monotonic()
    with pytest.raises(UnreachableError, match="timed out"):
        machine.client.get(PATH, limit=0.2)
    assert time.monotonic() - before < 5
    assert not trickler.is_set()


def test_a_listener_that_takes_nobody_ends_in_time(machine: Machine) -> None:
    machine.eve.path.unlink()
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(str(machine.eve.path))
        listener.listen(0)
        waiting = stack.enter_context(socket.socket(socket.AF_UNIX))
        waiting.connect(str(machine.eve.path))
        before = time.monotonic()
        with pytest.raises(UnreachableError, match="no kconnd daemon answers"):
            machine.client.get(PATH, limit=0.2)
        assert time.monotonic() - before < 10


LONG = MAX_FOREIGN_REPLY_BYTES + 1


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LONG,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % LONG,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        + (b"100000\r\n" + b" " * (1 << 20) + b"\r\n") * 5,
        b"HTTP/1.1 500 No\r\nContent-Length: %d\r\n\r\n" % LONG,
    ],
    ids=["length", "chunk", "chunks", "error"],
)
def test_a_reply_that_is_too_long_is_not_read(machine: Machine, reply: bytes) -> None:
    machine.eve.replies["GET", kernel_path(NAME)] = Raw((reply,))
    with pytest.raises(UnreachableError, match=r"no valid length|does not end"):
        machine.client.get(PATH)


def test_ones_own_daemon_may_reply_at_length(machine: Machine) -> None:
    text = b'{"x": "%s"}' % (b"y" * LONG)
    machine.own.replies["GET", "/v1/kernels"] = Raw((whole(text),))
    assert len(machine.client.get("/v1/kernels")["x"]) == LONG


@pytest.mark.parametrize("read", [Client.get, Client.stream], ids=["get", "stream"])
def test_whoever_hangs_up_or_redirects_by_http_is_no_daemon(
    machine: Machine, read: Callable[..., object]
) -> None:
    for reply in (
        b"",
        b"HTTP/1.1 301 Moved\r\nLocation: unix:///run/x\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        whole(b'{"error": {"code": "elsewhere", "owner": "daemon"}}', 301),
    ):
        machine.clear()
        machine.eve.replies["GET", kernel_path(NAME)] = Raw((reply,))
        with pytest.raises(UnreachableError):
            list(read(machine.client, PATH))  # type: ignore[call-overload]  # of a dict its keys
        machine.asked_for_eve()
        machine.bystanders_saw_nothing()
