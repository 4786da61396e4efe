"""Whether a new client can attach, checked again and again while files change."""

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from kconnd.core.launch.connection import ConnectionInfo
from kconnd.core.launch.kernel_files import IPC_PORTS
from kconnd.system.channels.attach_check import AttachCheck
from kconnd.system.process.processes import ProcessId

NO_PROCESS = ProcessId(1, 0)  # Unix sockets are checked without the kernel's processes


@pytest.fixture(name="connection")
def _connection() -> Iterator[ConnectionInfo]:
    """Five listening sockets, and the connection that names them."""
    with TemporaryDirectory(prefix="kc-", dir="/tmp") as folder, ExitStack() as stack:
        connection = ConnectionInfo("ipc", f"{folder}/k", IPC_PORTS, "key")
        for path in connection.socket_paths():
            listener = stack.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(path)
            listener.listen()
        yield connection


def write(file: Path, connection: ConnectionInfo) -> None:
    """Write a connection file as another file of this name, as the daemon does."""
    new = file.with_suffix(".new")
    new.write_text(json.dumps(connection.to_file()))
    new.rename(file)


def test_each_change_of_the_connection_file_is_seen(
    connection: ConnectionInfo, tmp_path: Path
) -> None:
    file = tmp_path / "kernel.json"
    check = AttachCheck(connection, file, NO_PROCESS)
    assert not check.has_file()
    write(file, connection)
    assert (check.has_file(), check.find_fault()) == (True, "")
    write(file, replace(connection, key="another"))
    assert not check.has_file()
    assert "differs from what the kernel was launched with" in check.find_fault()
    assert not check.has_file()
    file.unlink()
    assert not check.has_file()
    write(file, connection)
    assert (check.has_file(), check.find_fault()) == (True, "")


def test_a_removed_socket_is_a_fault_beside_an_unchanged_file(
    connection: ConnectionInfo, tmp_path: Path
) -> None:
    file = tmp_path / "kernel.json"
    write(file, connection)
    check = AttachCheck(connection, file, NO_PROCESS)
    assert check.find_fault() == ""
    Path(connection.socket_paths()[0]).unlink()
    assert "nothing listens on its shell channel" in check.find_fault()


def test_only_a_check_that_reads_no_tables_is_fast(tmp_path: Path) -> None:
    tcp = ConnectionInfo("tcp", "127.0.0.1", IPC_PORTS, "key")
    unix = replace(tcp, transport="ipc", ip=str(tmp_path))
    assert [AttachCheck(one, tmp_path, NO_PROCESS).is_fast for one in (tcp, unix)] == [False, True]
