"""Private files, locks, the ledger, the store, logs, processes: real files and processes."""

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from kconnd.core.kernel.lifecycle import Lifecycle, State
from kconnd.core.kernel.record import KernelRecord, Origin
from kconnd.errors import LockedError, PortsTakenError, StateFileError, UnsafePathError
from kconnd.system.files.private import (
    ensure_private_dir,
    flush,
    is_locked,
    is_private,
    replace_private,
    take_lock,
    write_private,
)
from kconnd.system.http.peer import read_peer
from kconnd.system.ledger import PortLedger, is_free
from kconnd.system.process.processes import (
    ProcessId,
    is_alive,
    read_stat,
    send_signal,
    wait_for_end,
)
from kconnd.system.store import Store

WaitUntil = Callable[..., Awaitable[None]]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_a_private_file_replaces_a_link_and_does_not_follow_it(tmp_path: Path) -> None:
    victim, link = tmp_path / "victim", tmp_path / "link"
    victim.write_bytes(b"dear")
    link.symlink_to(victim)
    before = tmp_path.stat().st_mode
    write_private(link, b"secret")
    assert victim.read_bytes() == b"dear"
    assert (link.read_bytes(), link.is_symlink(), mode(link)) == (b"secret", False, 0o600)
    assert tmp_path.stat().st_mode == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "victim"]


def test_a_private_file_is_known_by_all_that_makes_it_one(tmp_path: Path) -> None:
    path = tmp_path / "key"
    assert not is_private(path, b"secret")
    write_private(path, b"secret")
    assert is_private(path, b"secret")
    assert not is_private(path, b"secre")
    assert not is_private(path, b"secret2")
    (tmp_path / "link").symlink_to(path)
    assert not is_private(tmp_path / "link", b"secret")
    (tmp_path / "other").hardlink_to(path)
    assert not is_private(path, b"secret"), "others may have it by another name"
    (tmp_path / "other").unlink()
    path.chmod(0o640)
    assert not is_private(path, b"secret")
    os.mkfifo(tmp_path / "pipe", 0o600)
    assert not is_private(tmp_path / "pipe", b"")


def test_a_file_is_complete_or_absent_at_every_instant(tmp_path: Path) -> None:
    path, stop = tmp_path / "file", threading.Event()
    seen: set[str] = set()

    def read() -> None:
        while not stop.is_set():
            try:
                found = json.loads(path.read_bytes())
            except FileNotFoundError:
                continue
            seen.add("whole" if len(found) == 1000 else "cut")
            seen.add(oct(mode(path)))

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(300):
        write_private(path, json.dumps([number] * 1000).encode())
    stop.set()
    reader.join()
    assert seen == {"whole", "0o600"}


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.mkdir()
    with pytest.raises(OSError, match="directory"):
        write_private(path, b"x")
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


def test_a_folder_is_ours_alone_or_refused(tmp_path: Path) -> None:
    good = tmp_path / "a/b"
    ensure_private_dir(good)
    ensure_private_dir(good)
    assert mode(good) == 0o700
    opened = tmp_path / "open"
    opened.mkdir(mode=0o755)
    (tmp_path / "link").symlink_to(good)
    (tmp_path / "file").touch()
    for bad, why in (
        (opened, "0755"),
        (tmp_path / "link", "not a folder"),
        (tmp_path / "file", "not a folder"),
    ):
        with pytest.raises(UnsafePathError, match=why) as caught:
            ensure_private_dir(bad)
        command = re.match(r"(?:chmod|mv) \S+ \S+", caught.value.hint)
        assert command, "the hint begins with a command that works"
        subprocess.run(command[0].split(), check=True)
        ensure_private_dir(bad)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: to make another user's folder")
def test_a_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    planted = tmp_path / "kconnd"
    planted.mkdir(mode=0o700)
    os.chown(planted, 65534, 65534)
    with pytest.raises(UnsafePathError, match="it belongs to uid 65534") as caught:
        ensure_private_dir(planted)
    assert caught.value.hint == f"root can move it out of the way: mv {planted} {planted}.old"


def test_a_lock_is_held_by_one_and_tells_who(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    held = take_lock(path, "me, pid 7")
    assert is_locked(path)
    with pytest.raises(LockedError, match="me, pid 7 holds it"):
        take_lock(path)
    os.close(held)
    assert not is_locked(path)


def test_ports_are_granted_once_over_many_processes(tmp_path: Path) -> None:
    """Ten processes at once, ten grants each, in a range that just holds them all."""
    script = (
        "import sys; from pathlib import Path; from kconnd.system.ledger import PortLedger\n"
        "ledger = PortLedger(Path(sys.argv[1]))\n"
        "for n in range(10): print(*ledger.grant(f'{sys.argv[2]}-{n}', '127.0.0.1', 24000, 24599))"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path), str(number)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(10)
    ]
    ports = [port for one in processes for port in one.communicate()[0].split()]
    assert len(ports) == len(set(ports)) == 500
    assert len(PortLedger(tmp_path).granted()) == 100


def test_a_port_that_is_used_is_not_granted_and_a_released_one_is_again(tmp_path: Path) -> None:
    ledger = PortLedger(tmp_path)
    with socket.socket() as used:
        used.bind(("127.0.0.1", 24702))
        used.listen()
        assert not is_free("127.0.0.1", 24702)
        with pytest.raises(PortsTakenError):
            ledger.grant("a", "127.0.0.1", 24700, 24704)
        assert ledger.granted() == {}
    assert sorted(ledger.grant("a", "127.0.0.1", 24700, 24704)) == list(range(24700, 24705))
    with pytest.raises(PortsTakenError):
        ledger.grant("b", "127.0.0.1", 24700, 24704)
    assert len(ledger.grant("a", "127.0.0.1", 24700, 24704)) == 5  # its own count as free
    ledger.release("a")
    assert ledger.keep("b", (24700, 1, 2, 3, 4))
    assert not ledger.keep("c", (24699, 24700, 24701, 24702, 24703))
    assert sorted(ledger.granted()) == ["b"]
    with pytest.raises(PortsTakenError):
        ledger.grant("a", "127.0.0.1", 24700, 24704)


def test_ports_of_ipv6(tmp_path: Path) -> None:
    assert len(set(PortLedger(tmp_path).grant("a", "::1", 24800, 24899))) == 5


def test_a_damaged_ledger_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "ports.json").write_bytes(b"{half")
    assert len(PortLedger(tmp_path).grant("a", "127.0.0.1", 24900, 24999)) == 5


def test_a_record_that_cannot_be_read_is_put_aside(tmp_path: Path) -> None:
    origin = Origin("m", "host", "boot")
    store = Store(tmp_path / "state", origin)
    record = KernelRecord("lab", Lifecycle(state=State.RUNNING, generation=3), origin=origin)
    store.save(record)
    assert (list(store.names()), store.read("lab")) == (["lab"], record)
    path = tmp_path / "state/kernels/lab/record.json"
    assert mode(path) == 0o600
    for number, damage in enumerate((b"", b"{", b"[]", b'{"version": 99}'), start=1):
        path.write_bytes(damage)
        with pytest.raises(StateFileError, match=rf"it is now .*record\.bad-{number}\.json"):
            store.read("lab")
        assert path.with_name(f"record.bad-{number}.json").read_bytes() == damage
    assert list(store.names()) == []
    store.close()


def save_to_disk(state: Path, generation: int) -> None:
    store = Store(state, Origin("m", "host", "boot"))
    store.save(KernelRecord("lab", Lifecycle(generation=generation)))
    store.close()


def test_nobody_waits_until_a_record_is_on_disk_and_the_end_does(tmp_path: Path) -> None:
    path = tmp_path / "state/kernels/lab/record.json"
    may_go, seen = threading.Semaphore(0), []

    def write(what: Path) -> None:
        assert may_go.acquire(timeout=30)
        seen.append((what, json.loads(what.read_bytes())["lifecycle"]["generation"]))

    save_to_disk(tmp_path / "state", 1)
    store = Store(tmp_path / "state", Origin("m", "host", "boot"), write)
    for generation in range(2, 5):
        store.save(KernelRecord("lab", Lifecycle(generation=generation)))
    assert seen == []
    assert store.read("lab").lifecycle.generation == 4, "a daemon that comes now knows it"
    (before,) = path.parent.glob(".record.json.*")
    assert json.loads(before.read_bytes())["lifecycle"]["generation"] == 1
    may_go.release(9)
    store.close()
    assert {*seen} == {(path, 4)}
    assert len(seen) <= 2, "what is due already need not be due twice"
    assert [one.name for one in path.parent.iterdir()] == ["record.json"]
    store.save(KernelRecord("lab", Lifecycle(generation=5)))
    assert store.read("lab").lifecycle.generation == 5, "nothing is lost at the very end"


@pytest.mark.parametrize("left", [b"", b"\0" * 300])
def test_a_crash_of_the_machine_takes_back_no_more_than_what_was_not_on_disk(
    tmp_path: Path, left: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """Which is what a file system that has no data of the new one yet leaves."""

    def fail(_: Path) -> None:
        raise OSError(5, "Input/output error")

    save_to_disk(tmp_path / "state", 1)
    store = Store(tmp_path / "state", Origin("m", "host", "boot"), fail)
    for generation in (2, 3):
        store.save(KernelRecord("lab", Lifecycle(generation=generation)))
    store.close()
    path = tmp_path / "state/kernels/lab/record.json"
    path.write_bytes(left)
    (path.parent / ".record.json.0000abcd").write_bytes(b'{"version')  # one that was half written
    again = Store(tmp_path / "state", Origin("m", "host", "boot"))
    (path.parent / ".record.json.swp").symlink_to("nowhere")  # somebody else's, who has a look
    assert again.read("lab").lifecycle.generation == 1
    assert f"it is now {path.parent}/record.bad-1.json; using the previous version" in caplog.text
    assert path.with_name("record.bad-1.json").read_bytes() == left
    part = again.folder("new") / ".record.json.0000abcd"  # of one that never was
    part.touch()
    again.tidy([])
    assert (part.exists(), (path.parent / ".record.json.0000abcd").exists()) == (False, True)
    again.tidy(["lab"])
    assert again.read("lab").lifecycle.generation == 1
    left_there = {one.name for one in path.parent.iterdir()}
    assert left_there == {"record.json", "record.bad-1.json", ".record.json.swp"}
    again.close()


def test_a_replaced_file_is_kept_where_the_file_system_has_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "it"
    assert replace_private(path, b"one") is None, "there was none"
    previous = replace_private(path, b"two")
    assert previous is not None
    assert (path.read_bytes(), previous.read_bytes(), mode(path)) == (b"two", b"one", 0o600)

    def no_links(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", no_links)
    assert replace_private(path, b"three") is None
    assert (path.read_bytes(), len(list(tmp_path.iterdir()))) == (b"three", 2)


def test_only_a_regular_file_is_kept_when_replaced(tmp_path: Path) -> None:
    path, victim = tmp_path / "it", tmp_path / "victim"
    path.mkdir()
    with pytest.raises(IsADirectoryError):
        replace_private(path, b"one")
    path.rmdir()
    victim.write_bytes(b"dear")
    path.symlink_to(victim)
    assert replace_private(path, b"one") is None
    assert (path.read_bytes(), victim.read_bytes(), mode(path)) == (b"one", b"dear", 0o600)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["it", "victim"]


def test_a_file_that_is_gone_need_not_be_written_to_disk(tmp_path: Path) -> None:
    (tmp_path / "there").touch()
    flush(tmp_path / "there")
    flush(tmp_path / "gone")
    (tmp_path / "link").symlink_to(tmp_path / "there")
    with pytest.raises(OSError, match="symbolic link"):
        flush(tmp_path / "link")


def test_the_peer_is_who_the_system_says() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert read_peer(ours).uid == os.geteuid()
        assert read_peer(ours).pid == os.getpid()


async def test_a_process_is_known_by_more_than_its_number() -> None:
    process = subprocess.Popen(["/bin/sleep", "1000"])  # noqa: ASYNC220  # at once
    known = ProcessId(process.pid, read_stat(process.pid)[2])
    stranger = ProcessId(process.pid, known.started - 1)
    assert not send_signal(stranger, signal.SIGKILL)
    await wait_for_end(stranger)
    assert is_alive(known)
    assert send_signal(known, signal.SIGKILL)
    await wait_for_end(known)
    assert not is_alive(known)
    assert not send_signal(known, signal.SIGTERM)
    process.returncode = 0
