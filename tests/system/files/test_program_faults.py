"""Programs that exist and cannot be executed: the reason, and a change that helps."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kconnd.system.files.program_faults import (
    explain_failed_exec,
    find_program,
    foresee_chdir,
    foresee_exec,
)

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


# Prints the errno with which each action fails, or 0 if the program was executed.
EXECUTE = """
import json, os, sys
numbers = []
for action, word in json.loads(sys.argv[1]):
    pid = os.fork()
    if pid == 0:
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.chdir(word) if action == "chdir" else os.execvpe(word, [word], os.environ)
        except OSError as error:
            os._exit(error.errno)
        os._exit(0)
    numbers.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
print(json.dumps(numbers))
"""
PROGRAMS = {
    "script": (SCRIPT, 0o755),
    "blank": (b"#! /bin/sh\nexit 0\n", 0o755),
    "option": (b"#!/bin/sh -e\nexit 0\n", 0o755),
    "cr": (b"#!/bin/sh\r\nexit 0\r\n", 0o755),
    "gone": (b"#!/no/such\n", 0o755),
    "folder": (b"#!/tmp\n", 0o755),
    "nothing": (b"#!\n", 0o755),
    "text": (b"exit 0\n", 0o755),
    "empty": (b"", 0o755),
    "no-x-bit": (SCRIPT, 0o644),
}


def real_errnos(folder: Path, search_path: str, actions: list[tuple[str, str]]) -> list[int]:
    command = [sys.executable, "-I", "-c", EXECUTE, json.dumps(actions)]
    env = {"PATH": search_path}
    ran = subprocess.run(command, check=True, capture_output=True, cwd=folder, env=env)
    numbers: list[int] = json.loads(ran.stdout)
    return numbers


def test_the_errno_of_an_exec_is_foreseen(tmp_path: Path) -> None:
    for program, (content, mode) in PROGRAMS.items():
        (tmp_path / program).write_bytes(content)
        (tmp_path / program).chmod(mode)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/cr").symlink_to("/no/such")
    (tmp_path / "sub/text").touch(0o644)  # found first, and no program
    search_path = f"/no/such:{tmp_path}/text:{tmp_path}/sub:{tmp_path}"
    names = [*PROGRAMS, "missing", "./script", "sub/../script", "sub", ".."]
    words = [*names, *(str(tmp_path / name) for name in names)]
    numbers = real_errnos(tmp_path, search_path, [("exec", word) for word in words])
    foreseen = [foresee_exec(word, str(tmp_path), search_path) for word in words]
    assert dict(zip(words, foreseen, strict=True)) == dict(zip(words, numbers, strict=True))
    assert set(numbers) >= {0, errno.ENOENT, errno.EACCES, errno.ENOEXEC}


def test_the_errno_of_a_chdir_is_foreseen(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    names = (".", "file", "missing", "file/below", "loop", "x" * 300)
    folders = [str(tmp_path / name) for name in names]
    numbers = real_errnos(tmp_path, "", [("chdir", folder) for folder in folders])
    assert list(map(foresee_chdir, folders)) == numbers
