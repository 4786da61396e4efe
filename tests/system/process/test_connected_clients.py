"""Who is connected to kernels: one look at all sockets tells of several."""

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from kconnd.core.launch.connection import ConnectionInfo
from kconnd.system.process.connected_clients import ClientCounter, connected_clients

CLIENT = (
    "import socket, sys\n"
    "ends = [socket.socket(socket.AF_UNIX) for _ in sys.argv[1:]]\n"
    "for end, path in zip(ends, sys.argv[1:]): end.connect(path)\n"
    "print(flush=True); sys.stdin.read()"
)


@pytest.fixture
def prefix() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="kc-", dir="/tmp") as folder:
        yield str(Path(folder) / "k")


def kernel(prefix: str) -> ConnectionInfo:
    return ConnectionInfo("ipc", prefix, (1, 2, 3, 4, 5), key="k", kernel_name="python3")


@contextlib.contextmanager
def listening(*paths: str) -> Iterator[list[socket.socket]]:
    """Listen as a kernel does; what is accepted is kept open."""
    with contextlib.ExitStack() as stack:
        ends = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in paths]
        for end, path in zip(ends, paths, strict=True):
            end.bind(path)
            end.listen()
        yield ends


@contextlib.contextmanager
def client(*paths: str) -> Iterator[None]:
    """Connect from another process."""
    command = [sys.executable, "-c", CLIENT, *paths]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield
        process.communicate()


def test_one_look_counts_the_clients_of_several(prefix: str) -> None:
    one, other, unseen = (kernel(f"{prefix}{letter}") for letter in "abc")
    shell, hb, second = f"{prefix}a-1", f"{prefix}a-2", f"{prefix}b-1"
    with contextlib.ExitStack() as stack:
        ends = stack.enter_context(listening(shell, hb, second))
        stack.enter_context(client(shell, hb))
        stack.enter_context(client(shell, second))
        for end in (ends[0], *ends):
            stack.enter_context(end.accept()[0])
        own = stack.enter_context(socket.socket(socket.AF_UNIX))
        own.connect(second)
        counter, pid = ClientCounter(), os.getpid()
        assert [counter.count(each, pid) for each in (one, other, unseen)] == [2, 1, None]
        assert connected_clients(one, pid) == 2


def test_what_cannot_be_read_is_no_number(prefix: str) -> None:
    assert ClientCounter().count(kernel(prefix), 2**22 + 1) is None
