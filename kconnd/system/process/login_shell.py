"""Asks a user's login shell for PATH.

The shell runs the user's start-up files, which may print anything, wait for a terminal, start
programs that stay, or never end. The shell therefore has a session of its own, no terminal and no
input. Its output is read until the answer is complete, and no longer than `LIMIT_S`; then the shell
and all processes of its session are killed.

A shell is a login shell if its name begins with a dash; tcsh accepts no option ``-l`` together with
a command. The answer is printed by sh, because the shells differ in how they print PATH: in fish
and tcsh, it is a list. A random mark tells the answer from the output of start-up files.
"""

import contextlib
import os
import secrets
import select
import signal
import subprocess
import time
from collections.abc import Mapping

LIMIT_S = 3.0
MAX_OUTPUT_BYTES = 256 << 10
_COMMAND = """exec /bin/sh -c 'printf "\\n{mark}%s\\n" "$PATH"'"""


def ask_path(shell: str, env: Mapping[str, str], limit_s: float = LIMIT_S) -> str:
    """Return the PATH that a login shell has after its start-up files.

    Raises
    ------
    OSError
        If the shell cannot be run, or does not tell PATH within the limit.
    """
    mark = f"kconnd-{secrets.token_hex(8)}:"
    process = subprocess.Popen(
        [f"-{os.path.basename(shell)}", "-c", _COMMAND.format(mark=mark)],  # noqa: PTH119  # a text
        executable=shell,
        env=dict(env),
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        umask=0o022,
    )
    assert process.stdout is not None  # noqa: S101  # it is a pipe
    with process.stdout as output:
        try:
            answer = _read_answer(output.fileno(), mark.encode(), time.monotonic() + limit_s)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):  # it waits for a disk
        process.wait(limit_s)
    if answer is None:
        raise TimeoutError(f"{shell} did not print it within {limit_s:g} s")
    return answer


def _read_answer(output: int, mark: bytes, deadline: float) -> str | None:
    """Read the output until it contains the line with the answer; None if it never does."""
    text = b""
    poll = select.poll()
    poll.register(output, select.POLLIN)
    while (remaining_s := deadline - time.monotonic()) > 0 and len(text) < MAX_OUTPUT_BYTES:
        if not poll.poll(remaining_s * 1000):
            break
        chunk = os.read(output, 64 << 10)
        text += chunk
        answer = text.partition(b"\n" + mark)[2]
        if b"\n" in answer:
            return os.fsdecode(answer.partition(b"\n")[0]) or None
        if not chunk:
            break
    return None
