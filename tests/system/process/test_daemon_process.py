"""Which processes are proved to be an owner's daemon; tests/server proves those that are."""

import errno
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kconnd.errors import RefusedError
from kconnd.system.http.peer import read_peer
from kconnd.system.process.daemon_process import (
    SO_PEERPIDFD,
    _open_peer,
    check_is_alive,
    check_peer_is_daemon,
    daemon_process,
)

ME = os.geteuid()
CONNECT = """
import socket, sys
connection = socket.socket(socket.AF_UNIX)
connection.connect(sys.argv[1])
sys.stdin.read()
"""


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as found:
        found.bind("")  # an abstract name that the system chooses
        found.listen()
        yield found


def test_a_process_of_the_same_user_is_not_the_daemon(listener: socket.socket) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(listener.getsockname())
        peer_side, _ = listener.accept()
        with peer_side, pytest.raises(RefusedError, match="does not belong to the daemon of uid"):
            check_peer_is_daemon(peer_side, read_peer(peer_side))


def test_a_peer_that_has_ended_is_refused(listener: socket.socket) -> None:
    words = [sys.executable, "-c", CONNECT.replace("sys.argv[1]", repr(listener.getsockname()))]
    files = len(os.listdir("/proc/self/fd"))  # noqa: PTH208  # a count
    with subprocess.Popen(words, stdin=subprocess.PIPE) as process:
        peer_side, _ = listener.accept()
        process.kill()
    peer = read_peer(peer_side)
    assert peer.pid == process.pid
    with pytest.raises(RefusedError, match="does not belong to the daemon of uid"):
        check_peer_is_daemon(peer_side, peer)
    peer_side.close()
    assert len(os.listdir("/proc/self/fd")) == files  # noqa: PTH208  # no descriptor is left


def test_a_pid_of_nobody_is_refused() -> None:
    with pytest.raises(RefusedError), daemon_process(1 << 22, ME):
        pass


def test_a_process_is_watched_by_a_descriptor_of_any_number() -> None:
    """A front door with a thousand connections has no small ones left."""
    with subprocess.Popen(["/bin/sleep", "100"]) as process:
        handle = os.pidfd_open(process.pid)
        high = os.dup2(handle, 2000)
        check_is_alive(high, process.pid, ME)
        process.kill()
    with pytest.raises(RefusedError):
        check_is_alive(high, process.pid, ME)
    os.close(handle)
    os.close(high)


class OldSocket(socket.socket):
    """A socket of a Linux before 6.5, which has no pidfd of its peer."""

    def getsockopt(self, *words: int) -> Any:
        if words[1] == SO_PEERPIDFD:
            raise OSError(errno.ENOPROTOOPT, os.strerror(errno.ENOPROTOOPT))
        return super().getsockopt(*words)


@pytest.mark.parametrize("kind", [socket.socket, OldSocket])
def test_the_process_that_connected_is_held(
    listener: socket.socket, kind: type[socket.socket]
) -> None:
    words = [sys.executable, "-c", CONNECT.replace("sys.argv[1]", repr(listener.getsockname()))]
    with subprocess.Popen(words, stdin=subprocess.PIPE) as process:
        accepted, _ = listener.accept()
        with kind(fileno=accepted.detach()) as peer_side:
            handle = _open_peer(peer_side, read_peer(peer_side).pid)
            assert f"Pid:\t{process.pid}" in Path(f"/proc/self/fdinfo/{handle}").read_text()
            check_is_alive(handle, process.pid, ME)
            process.kill()
            process.wait()
            with pytest.raises(RefusedError):
                check_is_alive(handle, process.pid, ME)
            with pytest.raises(OSError):  # noqa: PT011  # which one depends on the system
                _open_peer(peer_side, process.pid)
            os.close(handle)
