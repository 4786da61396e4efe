"""Reading the sockets of a process tree, and greetings of real ZMQ sockets."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from kconnd.core.launch.connection import ConnectionInfo, CurveKeys
from kconnd.core.launch.wire import TrialFailure
from kconnd.core.protocol.zmtp import GREETING, parse_mechanism
from kconnd.system.channels.kernel_listeners import (
    greet,
    has_bound,
    list_sockets,
    read_exposure,
    read_listeners,
    read_refusal,
)
from kconnd.system.process.processes import ProcessId, read_stat

HERE = "127.0.0.1"


class Routers:
    """ROUTER sockets, which stay open until the end of a test."""

    def __init__(self) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._sockets: list[zmq.Socket[bytes]] = []

    def open(self) -> zmq.Socket[bytes]:
        self._sockets.append(self._context.socket(zmq.ROUTER))
        return self._sockets[-1]

    def bind(self, *, curve: bool = False) -> int:
        router = self.open()
        if curve:
            router.curve_publickey, router.curve_secretkey = zmq.curve_keypair()
            router.curve_server = True
        return router.bind_to_random_port(f"tcp://{HERE}")

    def close(self) -> None:
        for router in self._sockets:
            router.close(linger=0)
        self._context.term()


@pytest.fixture(name="routers")
def _routers() -> Iterator[Routers]:
    routers = Routers()
    yield routers
    routers.close()


def this_process() -> ProcessId:
    return ProcessId(os.getpid(), read_stat(os.getpid())[2])


def test_a_greeting_shows_whether_a_socket_encrypts(routers: Routers) -> None:
    assert greet(HERE, routers.bind()) == "NULL"
    assert greet(HERE, routers.bind(curve=True)) == "CURVE"
    assert greet("0.0.0.0", routers.bind()) == "NULL"  # noqa: S104  # to connect to


def test_other_listeners_do_not_greet() -> None:
    with socket.create_server((HERE, 0)) as other:
        port = other.getsockname()[1]
        assert greet(HERE, port) == ""
    assert greet(HERE, port) == ""


@pytest.mark.parametrize(
    "greeting",
    [b"", GREETING[:63], b"x" + GREETING[1:], GREETING[:12] + b"\xff" * 20 + GREETING[32:]],
)
def test_what_is_no_greeting_names_no_mechanism(greeting: bytes) -> None:
    assert parse_mechanism(greeting) == ""
    assert parse_mechanism(GREETING + b"more") == "NULL"


def test_the_sockets_of_a_process_are_read(routers: Routers, tmp_path: Path) -> None:
    path, port = tmp_path / "k-1", routers.bind()
    routers.open().bind(f"ipc://{path}")
    sockets = read_listeners(list_sockets(this_process()))
    assert str(path) in sockets.unix
    (listener,) = [item for item in sockets.tcp if item.port == port]
    assert not listener.on_every_address
    assert list_sockets(ProcessId(1 << 22, 1)) == frozenset()


def test_a_socket_that_is_opened_later_is_not_greeted(tmp_path: Path) -> None:
    connection = ConnectionInfo("ipc", str(tmp_path / "k"), (1, 2, 3, 4, 5), "k")
    sockets = list_sockets(this_process())
    with socket.create_server((HERE, 0)) as listener:
        listener.settimeout(0)
        read_exposure(connection, sockets)
        with pytest.raises(BlockingIOError):
            listener.accept()
        assert read_exposure(connection, list_sockets(this_process()))


def test_a_refusal_is_seen_on_real_sockets(routers: Routers, tmp_path: Path) -> None:
    connection = ConnectionInfo("ipc", str(tmp_path / "k"), (1, 2, 3, 4, 5), "k")
    assert read_refusal(connection, this_process()) is None
    ports = [routers.bind() for _ in range(4)]
    refusal = read_refusal(connection, this_process())
    assert refusal is not None
    assert all(str(port) in refusal.evidence for port in ports)
    keys = CurveKeys("p", "s")
    encrypted = ConnectionInfo("tcp", HERE, (ports[0], 2, 3, 4, 5), "k", curve=keys)
    refusal = read_refusal(encrypted, this_process())
    assert refusal is not None
    assert refusal.failure is TrialFailure.PLAIN


def test_one_bound_socket_is_enough(routers: Routers, tmp_path: Path) -> None:
    root, nobody = this_process(), ProcessId(1 << 22, 1)
    unix = ConnectionInfo("ipc", str(tmp_path / "k"), (1, 2, 3, 4, 5), "k")
    assert not has_bound(unix, root)
    routers.open().bind(f"ipc://{tmp_path}/k-3")
    assert has_bound(unix, nobody)
    (tmp_path / "k-3").unlink()
    assert has_bound(unix, root), "its clients keep their connections"
    assert not has_bound(unix, nobody)
    port = routers.bind()
    with socket.socket() as free:  # it is bound, and does not listen
        free.bind((HERE, 0))
        unused = free.getsockname()[1]
        assert has_bound(
            ConnectionInfo("tcp", HERE, (unused, port, unused, unused, unused), "k"), nobody
        )
        assert not has_bound(ConnectionInfo("tcp", HERE, (unused,) * 5, "k"), root)
