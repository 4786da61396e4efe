"""Programs that exist and cannot be executed: the reason, and a change that helps."""

import errno
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from kconnd.system.files.program_faults import explain_failed_exec, find_program

SCRIPT = b"#!/bin/sh\necho ran\n"


def exec_errno(path: Path) -> int:
    """Execute a program; return the errno of the failure, or 0."""
    try:
        subprocess.run([path], check=True, capture_output=True)
    except OSError as error:
        return error.errno or 0
    return 0


def follow(path: Path, hint: str) -> None:
    """Run the command in a hint."""
    _, _, command = hint.partition(": ")
    subprocess.run(["/bin/sh", "-c", command], check=True, cwd=path.parent)


def add_line(path: Path, _hint: str) -> None:
    path.write_bytes(b"#!/bin/sh\n" + path.read_bytes())


def replace_line(path: Path, _hint: str) -> None:
    path.write_bytes(SCRIPT)


@pytest.mark.parametrize(
    ("content", "mode", "reason", "hint", "change"),
    [
        (SCRIPT, 0o644, "it has no x bit", "chmod +x", follow),
        (b"#!/bin/sh\r\necho\r\n", 0o755, "ends in CR, so the interpreter", "sed -i", follow),
        (b"\xef\xbb\xbf" + SCRIPT, 0o755, "a byte order mark before #!", "sed -i", follow),
        (b"echo ran\n", 0o755, "no first line that names an interpreter", "#!/bin/sh", add_line),
        (b"", 0o755, "no first line that names an interpreter", "#!/bin/sh", add_line),
        (
            b"#!/no/such x\n",
            0o755,
            "names the interpreter /no/such, which",
            "/no/such",
            replace_line,
        ),
    ],
)
def test_a_program_that_cannot_run_is_explained_and_the_hint_helps(
    content: bytes,
    mode: int,
    reason: str,
    hint: str,
    change: Callable[[Path, str], None],
    tmp_path: Path,
) -> None:
    program = tmp_path / "a start.sh"
    program.write_bytes(content)
    program.chmod(mode)
    number = exec_errno(program)
    assert number != 0
    fault = explain_failed_exec(str(program), "/", "", number)
    assert fault is not None
    assert reason in fault.reason
    named = explain_failed_exec(program.name, "/", str(tmp_path), number)
    assert named is not None
    assert named.reason == f"{program}: {fault.reason}"
    assert hint in fault.hint
    change(program, fault.hint)
    assert exec_errno(program) == 0


def test_nothing_is_said_of_what_is_not_known(tmp_path: Path) -> None:
    program = tmp_path / "start.sh"
    assert explain_failed_exec(str(program), "/", "", errno.ENOENT) is None
    program.write_bytes(SCRIPT)
    program.chmod(0o755)
    assert explain_failed_exec(str(program), "/", "", errno.ENOENT) is None
    assert explain_failed_exec(str(program), "/", "", errno.EACCES) is None
    assert explain_failed_exec(str(program), "/", "", errno.E2BIG) is None
    program.write_bytes(b"\x7fELF")
    assert explain_failed_exec(str(program), "/", "", errno.ENOENT) is None
    program.unlink()
    os.mkfifo(program)
    fault = explain_failed_exec(str(program), "/", "", errno.EACCES)
    assert fault is not None
    assert "is not a file" in fault.reason


def test_a_program_is_looked_for_where_execve_looks(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin/kernel"
    program.touch(0o644)
    search_path = f"/no/such:{tmp_path}/bin"
    assert find_program("kernel", "/", search_path) == program
    assert find_program("bin/kernel", str(tmp_path), search_path) == program
    assert find_program("kernel", str(tmp_path / "bin"), "/no/such") is None
    assert find_program("kernel", str(tmp_path / "bin"), "/no/such:") == program
