"""The protocol between systemd and a service, with a socket in systemd's place."""

import os
import socket
from pathlib import Path

import pytest

from kconnd.system.systemd import notify as protocol
from kconnd.system.systemd.notify import notify, passed_sockets, watchdog_interval

OURS = str(os.getpid())


@pytest.mark.parametrize("is_abstract", [True, False])
def test_a_notification_reaches_the_manager(
    is_abstract: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"@kconnd-test-{OURS}" if is_abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path.replace("@", "\0"))
        manager.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", path)
        notify(READY=1, STATUS="2 kernels")
        assert manager.recv(1000) == b"READY=1\nSTATUS=2 kernels"


def test_without_a_manager_nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify(READY=1)


def test_sockets_are_taken_only_by_the_process_that_they_are_passed_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        passed = os.dup(listener.fileno())
        monkeypatch.setattr(protocol, "FIRST_DESCRIPTOR", passed)
        assert passed_sockets({"LISTEN_PID": "1", "LISTEN_FDS": "1"}) == []
        assert passed_sockets({}) == []
        (ours,) = passed_sockets({"LISTEN_PID": OURS, "LISTEN_FDS": "1"})
        with ours:
            assert ours.getsockname() == listener.getsockname()
            assert (ours.getblocking(), ours.get_inheritable()) == (False, False)


@pytest.mark.parametrize(
    ("env", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": OURS}, 30),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdogs_interval(env: dict[str, str], seconds: float | None) -> None:
    assert watchdog_interval(env) == seconds
