"""The sockets of a kernel that its connection file does not account for."""

from dataclasses import replace

import pytest

from kconnd.core.kernel.exposure import describe_exposure
from kconnd.core.kernel.reachability import Listener
from kconnd.core.launch.connection import ConnectionInfo

TCP = ConnectionInfo("tcp", "127.0.0.1", (11, 12, 13, 14, 15), "k")
EVERYWHERE = replace(TCP, ip="0.0.0.0")  # noqa: S104  # the profile's own wish
IPC = ConnectionInfo("ipc", "/run/k", (1, 2, 3, 4, 5), "k")


def listeners(*ports: int, everywhere: bool = False) -> list[Listener]:
    return [Listener(port, port, on_every_address=everywhere) for port in ports]


def quiet(_port: int) -> str:
    """Do not speak ZMTP."""
    return ""


@pytest.mark.parametrize(
    ("connection", "sockets"),
    [
        (TCP, listeners(*TCP.ports)),
        (EVERYWHERE, listeners(*TCP.ports, everywhere=True)),
        (IPC, []),
        (TCP, []),
    ],
)
def test_a_kernel_that_listens_as_told_is_not_warned_about(
    connection: ConnectionInfo, sockets: list[Listener]
) -> None:
    assert describe_exposure(connection, sockets, quiet) == ()


def test_every_address_is_warned_about() -> None:
    (warning,) = describe_exposure(TCP, listeners(*TCP.ports, everywhere=True), quiet)
    assert "every address of this machine, not only on 127.0.0.1" in warning
    assert "ports 11, 12, 13, 14, 15" in warning


def test_a_port_that_is_not_in_the_connection_file_is_warned_about() -> None:
    sockets = [*listeners(*TCP.ports), *listeners(5005)]
    assert describe_exposure(TCP, sockets, quiet) == (
        "it also listens on port 5005, not in its connection file",
    )
    (warning,) = describe_exposure(IPC, listeners(*range(11, 18), everywhere=True), quiet)
    assert "on every address of this machine on ports 11, 12, 13, 14, 15 and 2 more" in warning


def test_a_zmq_socket_of_its_own_on_loopback_is_no_exposure() -> None:
    assert describe_exposure(IPC, listeners(5005), lambda _port: "NULL") == ()
    assert describe_exposure(IPC, listeners(5005, everywhere=True), lambda _port: "NULL")
