"""A daemon that has another /tmp than this process."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from kconnd.system.files.hidden_daemon import find_hidden_daemon, has_other_tmp, lock_note
from kconnd.system.files.private import take_lock


@pytest.fixture
def elsewhere() -> Iterator[int]:
    """Give the pid of a process with a /tmp of its own."""
    script = "mount -t tmpfs none /tmp && echo && exec sleep 60"
    command = ["unshare", "--mount", "--propagation=private", "sh", "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        yield process.pid
        process.kill()


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: a /tmp of its own by unshare")
def test_a_daemon_with_another_tmp_is_found_by_its_lock(elsewhere: int, tmp_path: Path) -> None:
    assert has_other_tmp(elsewhere)
    lock = take_lock(tmp_path / "daemon.lock", lock_note(elsewhere))
    assert find_hidden_daemon(tmp_path) == elsewhere
    os.close(lock)  # the daemon has ended, and its note stays
    assert find_hidden_daemon(tmp_path) is None


@pytest.mark.parametrize(
    "note", [lock_note(os.getpid()), "kconnd, pid 1 of elsewhere\n4711", "kconnd", ""]
)
def test_other_locks_are_no_hidden_daemon(note: str, tmp_path: Path) -> None:
    lock = take_lock(tmp_path / "daemon.lock", note)
    assert find_hidden_daemon(tmp_path) is None
    os.close(lock)
    assert find_hidden_daemon(tmp_path / "none") is None


def test_a_process_that_has_ended_has_the_same_tmp() -> None:
    assert not has_other_tmp(1 << 22)
