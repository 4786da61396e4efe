"""A shim is found by its command line."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kconnd.system.process.find_shim import _is_shim, find_shim
from kconnd.system.process.processes import ProcessId, read_stat

NAME = "a-kernel-of-this-test"
PROGRAM = "import sys\nprint(flush=True)\nsys.stdin.read()\n"


@pytest.fixture
def shim(tmp_path: Path) -> Iterator[ProcessId]:
    """Run a program with a shim's command line until the test ends."""
    (tmp_path / "shim.py").write_text(PROGRAM, encoding="utf-8")
    command = [sys.executable, "-I", "-S", str(tmp_path / "shim.py"), NAME]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"\n"
        yield ProcessId(process.pid, read_stat(process.pid)[2])


def test_the_shim_of_the_name_is_found_and_no_other(shim: ProcessId) -> None:
    assert find_shim(NAME) == shim
    assert find_shim("another-kernel-of-this-test") is None


@pytest.mark.parametrize(
    ("arguments", "is_shim"),
    [
        ([f"kconnd-shim {NAME}"], True),  # the title of a forked one
        (["python", "-I", "-S", "/run/shim.pyc", NAME, "/run/k.plan"], True),  # in a unit
        (["kconnd-shim"], False),
        (["python", "-I", "-S", "/run/shim.pyc", "another"], False),
        (["python", "-I", "-S", "/run/other.py", NAME], False),
        (["python", "/run/shim.py", NAME], False),
        (["less", "-I", "-S", "/run/shim.py", NAME, "a", "b"], False),
        ([], False),
    ],
)
def test_command_lines_of_shims(arguments: list[str], is_shim: object) -> None:
    assert _is_shim(arguments, NAME) is is_shim
