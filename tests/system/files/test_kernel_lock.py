"""A kernel's lock, looked at without taking it."""

import json
import os
from pathlib import Path

import pytest

from kconnd.core.kernel.locality import Lock
from kconnd.system.files.kernel_lock import is_local, probe_lock, read_holder
from kconnd.system.files.private import take_lock
from kconnd.system.process.processes import ProcessId, pid_namespace, read_stat, shares_host_name

FACTS = {"boot_id": "b", "host": "h", "pid_namespace": "pid:[1]", "shim": [1, 2], "kernel": [3, 4]}


def test_a_lock_is_held_free_or_missing(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert probe_lock(path) is Lock.MISSING
    held = take_lock(path, "me")
    assert probe_lock(path) is Lock.HELD
    os.close(held)
    assert probe_lock(path) is Lock.FREE
    looking = os.open(path, os.O_RDONLY)
    assert probe_lock(path) is Lock.FREE, "those who look do not see each other"
    os.close(looking)


def test_what_cannot_be_told_counts_as_held(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to(tmp_path / "other")
    assert probe_lock(tmp_path / "lock") is Lock.HELD


def test_a_locked_file_says_who_holds_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.write_text(json.dumps(FACTS) + "\nrest of something longer", encoding="utf-8")
    holder = read_holder(path)
    assert holder is not None
    assert (holder.shim, holder.kernel) == (ProcessId(1, 2), ProcessId(3, 4))
    assert (holder.origin.host, holder.origin.pid_namespace) == ("h", "pid:[1]")
    older = {key: FACTS[key] for key in ("boot_id", "shim", "kernel")}
    path.write_text(json.dumps(older), encoding="utf-8")
    holder = read_holder(path)
    assert holder is not None
    assert holder.origin.host == ""


@pytest.mark.parametrize("text", ["", "a shim of kernel lab", "[]", '{"shim": 1}', "[" * 4000])
def test_a_locked_file_that_says_nothing_is_no_trouble(tmp_path: Path, text: str) -> None:
    path = tmp_path / "lock"
    path.write_text(text, encoding="utf-8")
    assert read_holder(path) is None


def test_a_pipe_in_its_place_holds_nobody_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "lock")
    assert read_holder(tmp_path / "lock") is None
    assert probe_lock(tmp_path / "lock") is Lock.FREE
    assert read_holder(tmp_path / "none") is None


def test_where_we_are() -> None:
    me = ProcessId(os.getpid(), read_stat(os.getpid())[2])
    assert pid_namespace().startswith("pid:[")
    assert shares_host_name(me)
    assert not shares_host_name(ProcessId(me.pid, me.started + 1))
    assert is_local(Path("/dev/shm")), "a tmpfs"
    assert not is_local(Path("/proc")), "what is not known to be local is not"
