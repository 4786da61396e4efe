"""Whether the processes of a kernel see a file, with mounts of their own."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kconnd.system.process.namespaces import hides_file
from kconnd.system.process.processes import ProcessId, read_stat

HIDE = 'mount -t tmpfs none "$1" && {}; echo ready; read _'


@contextlib.contextmanager
def child(*command: str) -> Iterator[None]:
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        if process.stdout.readline() != b"ready\n":
            pytest.skip("this user may not make mounts")
        yield
        process.communicate(b"\n")


def own() -> ProcessId:
    return ProcessId(os.getpid(), read_stat(os.getpid())[2])


def test_a_process_with_the_same_files_sees_each(tmp_path: Path) -> None:
    file = tmp_path / "file"
    with child(sys.executable, "-c", "print('ready', flush=True); input()"):
        assert not hides_file(own(), file, str(file)), "not even its absence counts"


ENDED_CHILD = """
import os, subprocess
child = subprocess.Popen(["true"])
os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
print("ready", flush=True)
input()
"""


def test_a_process_that_has_exited_hides_nothing(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with child(sys.executable, "-c", ENDED_CHILD):
        assert not hides_file(own(), file, str(file))


@pytest.mark.parametrize("then", ["true", 'echo other > "$1/file"'])
def test_a_process_with_other_mounts_may_not_see_a_file(tmp_path: Path, then: str) -> None:
    file = tmp_path / "hidden" / "file"
    file.parent.mkdir()
    file.touch()
    seen = tmp_path / "seen"
    seen.touch()
    with child("unshare", "-rm", "sh", "-c", HIDE.format(then), "sh", str(file.parent)):
        assert hides_file(own(), file, str(file))
        assert not hides_file(own(), seen, str(seen))
        assert hides_file(own(), seen, str(file))
