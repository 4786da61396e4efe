"""Explains why the system could not execute a program, or enter a folder.

execve(2) answers with the same errno for different causes: ENOENT can mean that the program, or the
interpreter in its first line, does not exist. `explain_failed_exec` looks at the program after such
an error. `foresee_exec` and `foresee_chdir` return the errno that execve(2) and chdir(2) would
answer with, without executing or entering anything. The files are read as the calling user, and
nothing is changed.
"""

import errno
import os
import re
import shlex
import stat
from dataclasses import dataclass
from pathlib import Path

from kconnd.system.files.regular import open_regular

HEAD_BYTES = 256  # Linux reads as much of a file to find its format
_SCRIPT = b"#!"
_ELF = b"\x7fELF"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class ProgramFault:
    """The reason why a program cannot be executed, and the change to make."""

    reason: str
    hint: str


def explain_failed_chdir(folder: str, number: int) -> ProgramFault:
    """Describe why a working directory cannot be entered, by the errno of chdir(2)."""
    return ProgramFault(
        f"entering the folder {folder}: {os.strerror(number)}",
        f"create {folder} as a folder that the user can enter, or change the profile's 'cwd'",
    )


def describe_failed_exec(word: str, cwd: str, search_path: str, number: int) -> ProgramFault:
    """Describe why a program cannot be executed; see `explain_failed_exec` for the arguments."""
    fault = explain_failed_exec(word, cwd, search_path, number)
    if fault is None:
        hint = f"install {word}, or set another interpreter or command in the profile"
        fault = ProgramFault(os.strerror(number), hint)
    return ProgramFault(f"running {word}: {fault.reason}", fault.hint)


def foresee_chdir(folder: str) -> int:
    """Return the errno with which chdir(2) would fail now, or 0."""
    try:
        mode = os.stat(folder).st_mode  # noqa: PTH116  # as the shim's chdir
    except OSError as error:
        return error.errno or errno.EIO
    if not stat.S_ISDIR(mode):
        return errno.ENOTDIR
    return 0 if os.access(folder, os.X_OK) else errno.EACCES


def foresee_exec(word: str, cwd: str, search_path: str) -> int:
    """Return the errno with which `os.execvpe` would fail now, or 0.

    The format of a binary program is not checked.
    """
    number = errno.ENOENT
    for folder in [cwd] if "/" in word else search_path.split(":"):
        failure = _foresee_execve(Path(cwd, folder, word), cwd)
        if failure == 0:
            return 0
        if failure not in {errno.ENOENT, errno.ENOTDIR} and number == errno.ENOENT:
            number = failure  # os.execvpe raises the first such error
    return number


def _foresee_execve(path: Path, cwd: str) -> int:
    """Return the errno with which execve(2) of a file would fail now, or 0."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        return error.errno or errno.EIO
    if not stat.S_ISREG(mode) or not os.access(path, os.X_OK):
        return errno.EACCES
    try:
        head = _read_head(path)
    except OSError:  # a program that can be executed and not read
        return 0
    if head.startswith(_SCRIPT):
        return _foresee_script(head, cwd)
    return 0 if head.startswith(_ELF) else errno.ENOEXEC


def _foresee_script(head: bytes, cwd: str) -> int:
    """Return the errno with which execve(2) of a script would fail now, or 0."""
    # Linux ends the name at a blank or a tab, so a CR before the line's end is a part of it.
    line = head.partition(b"\n")[0][len(_SCRIPT) :].strip(b" \t")
    name = os.fsdecode(re.split(rb"[ \t]", line, maxsplit=1)[0])
    if not name:
        return errno.ENOEXEC
    interpreter = Path(cwd, name)
    if not interpreter.exists():
        return errno.ENOENT
    return 0 if interpreter.is_file() and os.access(interpreter, os.X_OK) else errno.EACCES


def explain_failed_exec(word: str, cwd: str, search_path: str, number: int) -> ProgramFault | None:
    """Explain why a program could not be executed; return None if no reason is known.

    Parameters
    ----------
    word : str
        The first word of the command: a path, or the name of a program.
    cwd, search_path : str
        The working directory, and ``PATH``.
    number : int
        The errno of the failed execve(2).

    Returns
    -------
    ProgramFault, optional
        The reason names the file only if ``word`` is not its path.
    """
    path = find_program(word, cwd, search_path)
    if path is None:
        return None
    try:
        fault = _find_fault(path, number)
    except OSError:
        return None
    if fault is None or str(path) == word:
        return fault
    return ProgramFault(f"{path}: {fault.reason}", fault.hint)


def find_program(word: str, cwd: str, search_path: str) -> Path | None:
    """Find the file that a command's first word names, whether or not it can be executed."""
    folders = [cwd] if "/" in word else search_path.split(":")
    candidates = [Path(cwd, folder, word) for folder in folders]
    return next((path for path in candidates if os.path.lexists(path)), None)


def _find_fault(path: Path, number: int) -> ProgramFault | None:
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        return ProgramFault("it is not a file", "name a program")
    if number == errno.EACCES:
        return _permission_fault(path, mode)
    return _format_fault(path, _read_head(path), number)


def _read_head(path: Path) -> bytes:
    with open(open_regular(path), "rb") as stream:  # noqa: PTH123  # a descriptor
        return stream.read(HEAD_BYTES)


def _permission_fault(path: Path, mode: int) -> ProgramFault | None:
    if not mode & 0o111:
        return ProgramFault(
            "it exists, but it is not executable (it has no x bit)",
            f"run: chmod +x {shlex.quote(str(path))}",
        )
    if os.statvfs(path).f_flag & os.ST_NOEXEC:
        return ProgramFault(
            "it is on a file system that is mounted with noexec", "move it to another one"
        )
    return None


def _format_fault(path: Path, head: bytes, number: int) -> ProgramFault | None:
    quoted = shlex.quote(str(path))
    if head.startswith(_SCRIPT):
        return _interpreter_fault(path, head.partition(b"\n")[0][len(_SCRIPT) :])
    if number != errno.ENOEXEC:
        return None
    if head.startswith(_BYTE_ORDER_MARK + _SCRIPT):
        return ProgramFault(
            "it begins with a byte order mark before #!",
            f"save it without one, or run: sed -i '1s/^\\xEF\\xBB\\xBF//' {quoted}",
        )
    if head.startswith(_ELF):
        return ProgramFault("it is built for another processor", "install one for this one")
    return ProgramFault(
        "it has no first line that names an interpreter",
        "begin it with such a line, for example #!/bin/sh",
    )


def _interpreter_fault(path: Path, line: bytes) -> ProgramFault | None:
    """Explain the first line of a script, without ``#!``."""
    interpreter = os.fsdecode(line.split(maxsplit=1)[0]) if line.split() else ""
    if line.endswith(b"\r"):
        return ProgramFault(
            f"its first line ends in CR, so the interpreter {interpreter} is not found",
            f"give it Unix line ends: sed -i 's/\\r$//' {shlex.quote(str(path))}",
        )
    if os.path.lexists(interpreter):
        return None
    return ProgramFault(
        f"its first line names the interpreter {interpreter or '(none)'}, which does not exist",
        f"install {interpreter}, or change that line",
    )
