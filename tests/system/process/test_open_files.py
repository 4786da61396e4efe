"""The files that a process uses, as proc(5) shows them."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kconnd.system.process.open_files import files_in_use
from kconnd.system.process.processes import ProcessId

WAIT = "print('ready', flush=True); sys.stdin.read()"
READER = f"import sys; file = open(sys.argv[1]); {WAIT}"


@contextlib.contextmanager
def running(code: str, *arguments: str) -> Iterator[ProcessId]:
    """Run Python code until it is ready; end it afterwards."""
    command = [sys.executable, "-c", code, *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield ProcessId(process.pid, 0)
        process.communicate("")


@pytest.fixture
def path(tmp_path: Path) -> str:
    (tmp_path / "file").write_text("content")
    return str(tmp_path / "file")


@pytest.mark.parametrize(
    ("use", "counts"),
    [
        ("file = open(sys.argv[1])", True),
        ("file = open(sys.argv[1], 'a')", False),
        ("file = open(sys.argv[1], 'r+')", False),
        ("file = open(sys.argv[1]); file.close()", False),
        ("file = mmap.mmap(os.open(sys.argv[1], 0), 0, prot=1); os.closerange(3, 9)", True),
        ("file = mmap.mmap(os.open(sys.argv[1], os.O_RDWR), 0)", False),
    ],
)
def test_a_file_counts_that_is_only_read(path: str, use: str, counts: bool) -> None:  # noqa: FBT001  # pytest's way
    with running(f"import mmap, os, sys; {use}; {WAIT}", path) as process:
        used = files_in_use(process)
    assert (path in used) is counts
    assert any("python" in name for name in used), "the program itself"


def test_a_file_of_a_child_counts(path: str) -> None:
    code = (
        f"import subprocess, sys; subprocess.run([sys.executable, '-c', {READER!r}, sys.argv[1]])"
    )
    with running(code, path) as process:
        assert path in files_in_use(process)


def test_a_deleted_file_is_named_by_its_path(path: str) -> None:
    with running(READER, path) as process:
        Path(path).unlink()
        assert path in files_in_use(process)


def test_a_process_that_has_exited_uses_nothing() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    assert files_in_use(ProcessId(process.pid, 0)) == set()
