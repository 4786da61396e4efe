"""Whether a starting kernel ignores its connection file, from the sockets that it listens on."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from kconnd.core.kernel.reachability import Listener
from kconnd.core.kernel.refused_wire import ListeningSockets, find_refusal
from kconnd.core.launch.connection import ConnectionInfo, CurveKeys
from kconnd.core.launch.wire import TrialFailure

IPC = ConnectionInfo("ipc", "/run/k", (1, 2, 3, 4, 5), "k")
TCP = ConnectionInfo("tcp", "127.0.0.1", (11, 12, 13, 14, 15), "k")
CURVE = replace(TCP, curve=CurveKeys("p", "s"))
PORTS = (2001, 2002, 2003, 2004, 2005)


def tcp(*ports: int) -> ListeningSockets:
    return ListeningSockets(tcp={Listener(port, 100 + port) for port in ports})


def speaks(*ports: int) -> Callable[[int], str]:
    return lambda port: "NULL" if port in ports else ""


def test_a_kernel_that_emulates_unix_sockets_by_ports_refuses_them() -> None:
    refusal = find_refusal(IPC, tcp(*PORTS), speaks(*PORTS))
    assert refusal is not None
    assert refusal.failure is TrialFailure.ELSEWHERE
    assert "2001, 2002, 2003, 2004, 2005" in refusal.evidence


def test_a_kernel_that_binds_other_paths_refuses_them() -> None:
    refusal = find_refusal(IPC, ListeningSockets(unix=IPC.stray_paths()), speaks())
    assert refusal is not None
    assert "/run/k:1" in refusal.evidence


@pytest.mark.parametrize(
    ("sockets", "greet"),
    [
        (ListeningSockets(), speaks()),
        (tcp(*PORTS), speaks()),  # Spark's, say
        (tcp(*PORTS), speaks(*PORTS[:3])),  # too few for all channels
        (tcp(*PORTS[:3]), speaks(*PORTS)),
        (ListeningSockets(tcp(*PORTS).tcp, IPC.socket_paths()[:1]), speaks(*PORTS)),
        (ListeningSockets(unix=IPC.stray_paths()[:2]), speaks()),
        (ListeningSockets(unix=IPC.socket_paths()), speaks()),
    ],
)
def test_a_kernel_may_have_sockets_of_its_own(
    sockets: ListeningSockets, greet: Callable[[int], str]
) -> None:
    assert find_refusal(IPC, sockets, greet) is None


def test_a_kernel_that_ignores_its_keys_greets_without_them() -> None:
    refusal = find_refusal(CURVE, tcp(*CURVE.ports), speaks(*CURVE.ports))
    assert refusal is not None
    assert refusal.failure is TrialFailure.PLAIN
    assert find_refusal(CURVE, tcp(*CURVE.ports), lambda _port: "CURVE") is None
    assert find_refusal(CURVE, tcp(*CURVE.ports), lambda _port: "") is None
    assert find_refusal(CURVE, tcp(12, 13), speaks(*CURVE.ports)) is None
    assert find_refusal(TCP, tcp(*TCP.ports), speaks(*TCP.ports)) is None
