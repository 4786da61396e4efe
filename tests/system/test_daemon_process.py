"""Which processes are proved to be an owner's daemon; tests/server proves those that are."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from kconnd.errors import RefusedError
from kconnd.system.daemon_process import check_lives, check_peer_is_daemon, its_own_process
from kconnd.system.peer import read_peer

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
        with peer_side, pytest.raises(RefusedError, match="is not one of the daemon of uid"):
            check_peer_is_daemon(peer_side, read_peer(peer_side))


def test_a_peer_that_has_ended_is_refused(listener: socket.socket) -> None:
    words = [sys.executable, "-c", CONNECT.replace("sys.argv[1]", repr(listener.getsockname()))]
    files = len(os.listdir("/proc/self/fd"))  # noqa: PTH208  # a count
    with subprocess.Popen(words, stdin=subprocess.PIPE) as process:
        peer_side, _ = listener.accept()
        process.kill()
    peer = read_peer(peer_side)
    assert peer.pid == process.pid
    with pytest.raises(RefusedError, match="is not one of the daemon of uid"):
        check_peer_is_daemon(peer_side, peer)
    peer_side.close()
    assert len(os.listdir("/proc/self/fd")) == files  # noqa: PTH208  # no descriptor is left


def test_a_pid_of_nobody_is_refused() -> None:
    with pytest.raises(RefusedError), its_own_process(1 << 22, ME):
        pass


def test_a_process_is_watched_by_a_descriptor_of_any_number() -> None:
    """A front door with a thousand connections has no small ones left."""
    with subprocess.Popen(["/bin/sleep", "100"]) as process:
        handle = os.pidfd_open(process.pid)
        high = os.dup2(handle, 2000)
        check_lives(high, process.pid, ME)
        process.kill()
    with pytest.raises(RefusedError):
        check_lives(high, process.pid, ME)
    os.close(handle)
    os.close(high)
