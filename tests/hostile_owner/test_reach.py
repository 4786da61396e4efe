"""A client connects only to an owner's own sockets, whatever that owner's daemon replies."""

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kconnd.attach import readable_connection_file
from kconnd.client import kernel_path
from kconnd.connect import connect_qtconsole
from kconnd.core.launch.connection import ConnectionInfo
from kconnd.errors import RefusedError, UnreachableError
from tests.cli.fake_daemon import kernel
from tests.hostile_owner.machine import EVE, ME, NAME, Machine, uid_of

WHO = f"{EVE}/{NAME}"
needs_root = pytest.mark.skipif(ME != 0, reason="needs root: to listen as another user")


@contextlib.contextmanager
def listening(uid: int, ip: str = "127.0.0.1") -> Iterator[tuple[int, ...]]:
    """Listen on five sockets as a user, like a kernel; give their ports."""
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    if family == socket.AF_INET6 and not Path("/proc/self/net/tcp6").exists():
        pytest.skip("this machine has no IPv6")
    with contextlib.ExitStack() as stack:
        os.seteuid(uid)
        try:
            sockets = [stack.enter_context(socket.socket(family)) for _ in range(5)]
        finally:
            os.seteuid(ME)
        for one in sockets:
            one.bind((ip, 0))
            one.listen()
        yield tuple(one.getsockname()[1] for one in sockets)


def attach(machine: Machine, connection: ConnectionInfo, **more: Any) -> Path:
    """Attach to the kernel with a connection that the hostile owner's daemon sends."""
    machine.eve.replies["POST", kernel_path(NAME, "start")] = kernel(NAME)
    content = {**connection.to_file(), **more}
    machine.eve.replies["GET", kernel_path(NAME, "connection")] = content
    client = machine.client
    return Path(readable_connection_file(client, client.post(kernel_path(WHO, "start")), WHO))


def tcp(ports: tuple[int, ...], ip: str = "127.0.0.1") -> ConnectionInfo:
    return ConnectionInfo("tcp", ip, ports, "key", "python3")


@needs_root
@pytest.mark.root
@pytest.mark.parametrize(
    ("bound", "said"),
    [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("0.0.0.0", "0.0.0.0"), ("::1", "::1")],  # noqa: S104  # that is the case
)
def test_sockets_of_that_owner_are_reached_by_a_private_copy(
    machine: Machine, bound: str, said: str
) -> None:
    with listening(uid_of(EVE), bound) as ports:
        copy = attach(machine, tcp(ports, said), exec="/bin/sh", kernel_name="py\x1b[1m")
    assert copy == machine.folder / "u" / str(ME) / "shared" / f"kernel-{EVE}-{NAME}.json"
    assert copy.stat().st_mode & 0o777 == 0o600
    content = json.loads(copy.read_bytes())
    reached = tcp(ports, said.replace("0.0.0.0", "127.0.0.1")).to_file()  # noqa: S104  # as above
    assert content == {**reached, "kernel_name": "py?[1m"}


@needs_root
@pytest.mark.root
@pytest.mark.parametrize("place", range(5))
def test_one_port_of_somebody_else_is_one_too_many(machine: Machine, place: int) -> None:
    with listening(uid_of(EVE)) as hers, listening(ME) as ours:
        ports = (*hers[:place], ours[0], *hers[place + 1 :])
        with pytest.raises(RefusedError, match=f"on 127.0.0.1 port {ours[0]}, which the daemon"):
            attach(machine, tcp(ports))


@needs_root
@pytest.mark.root
def test_another_machine_is_not_reached_by_her_word(machine: Machine) -> None:
    every = "0.0.0.0"  # noqa: S104  # so that the address alone makes the difference
    with (
        listening(uid_of(EVE), every) as ports,
        pytest.raises(RefusedError, match=r"192.0.2.1 port"),
    ):
        attach(machine, tcp(ports, "192.0.2.1"))


@pytest.mark.parametrize("ip", ["127.0.0.1", "::1", "192.0.2.1"])
def test_ports_of_nobody_are_not_reached(machine: Machine, ip: str) -> None:
    with listening(ME) as ports:
        free = tuple(ports)
    with pytest.raises(RefusedError, match="so nothing was sent there"):
        attach(machine, tcp(free, ip))
    assert not (machine.folder / "u" / str(ME) / "shared").exists()


def test_sockets_of_ones_own_are_not_reached_by_her_word(machine: Machine) -> None:
    with listening(ME) as ports, pytest.raises(RefusedError, match="so nothing was sent there"):
        attach(machine, tcp(ports))


@contextlib.contextmanager
def unix_sockets(prefix: Path, uid: int) -> Iterator[str]:
    prefix.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        for number in range(1, 6):
            one = stack.enter_context(socket.socket(socket.AF_UNIX))
            one.bind(f"{prefix}-{number}")
            one.listen()
            os.chown(f"{prefix}-{number}", uid, -1)
        yield str(prefix)


def ipc(path: str) -> ConnectionInfo:
    return ConnectionInfo("ipc", path, (1, 2, 3, 4, 5), "key")


@needs_root
@pytest.mark.root
def test_root_reaches_unix_sockets_of_that_owner_in_the_folder_of_that_owner(
    machine: Machine,
) -> None:
    hers = machine.folder / "u" / str(uid_of(EVE)) / "ipc"
    with unix_sockets(hers / "lab", uid_of(EVE)) as path:
        assert json.loads(attach(machine, ipc(path)).read_bytes())["ip"] == path
        for number in range(1, 6):
            (hers / f"link-{number}").symlink_to(f"{path}-{number}")
        wrong = [f"{hers}/link", f"{hers}/none", f"{hers}/../ipc/lab"]
        with (
            unix_sockets(hers / "root", 0) as of_root,
            unix_sockets(machine.folder / "x", uid_of(EVE)) as outside,
        ):
            for one in (*wrong, of_root, outside):
                with pytest.raises((RefusedError, UnreachableError)):
                    attach(machine, ipc(one))


@pytest.mark.skipif(ME == 0, reason="root may")
def test_another_user_reaches_no_unix_socket_by_her_word(machine: Machine) -> None:
    folder = machine.folder / "u" / str(ME) / "ipc"
    refused = pytest.raises(RefusedError, match="that only nobody and root can enter")
    with unix_sockets(folder, ME) as path, refused:
        attach(machine, ipc(path))


@pytest.mark.parametrize("field", ["transport", "ip", "key", "shell_port", "signature_scheme"])
def test_what_is_missing_is_named(machine: Machine, field: str) -> None:
    with pytest.raises(UnreachableError, match=field):
        attach(machine, tcp((1, 2, 3, 4, 5)), **{field: None})


def plant(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a file into the current folder whose path is the name of the kernel."""
    monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")
    monkeypatch.chdir(machine.folder)
    planted = machine.folder / WHO
    planted.parent.mkdir()
    planted.write_text("{}")
    return planted


def words_of_console(wanted: str | Path) -> list[str]:
    """Open a console, and end it; return the words after the name of its program."""
    console = connect_qtconsole(["--style=monokai"], connection_file=wanted)
    console.kill()
    console.wait(10)
    assert isinstance(console.args, list)
    return [str(word) for word in console.args[4:]]


@needs_root
@pytest.mark.root
def test_a_console_from_python_reaches_a_kernel_of_that_owner_by_a_copy(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = plant(machine, monkeypatch)
    copy = machine.folder / "u" / str(ME) / "shared" / f"kernel-{EVE}-{NAME}.json"
    with listening(uid_of(EVE)) as ports:
        attach(machine, tcp(ports))
        copy.unlink()
        machine.eve.requests.clear()
        words = words_of_console(WHO)
    assert words == [WHO, "", "--existing", str(copy), "--style=monokai"]
    assert copy.exists()
    start, _connection = machine.eve.requests
    assert (start.path, start.body) == (kernel_path(NAME, "start"), {"on_demand": True})
    for path in (planted, f"./{WHO}"):
        assert words_of_console(path)[:4] == ["", "", "--existing", str(planted)]
    machine.bystanders_saw_nothing()


def test_a_console_from_python_is_refused_like_any_other(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(machine, monkeypatch)
    machine.eve.replies["POST", kernel_path(NAME, "start")] = kernel(NAME)
    with listening(ME) as ports:
        machine.eve.replies["GET", kernel_path(NAME, "connection")] = tcp(ports).to_file()
        with pytest.raises(RefusedError, match="so nothing was sent there"):
            connect_qtconsole(connection_file=WHO)
    for wanted in ("no-such-user/lab", f"{EVE}/lab/x", "/lab"):
        with pytest.raises(OSError, match=f"there is no connection file {wanted}"):
            connect_qtconsole(connection_file=wanted)
