"""A program on a pseudo-terminal, such as a console: types lines, and waits for what it shows."""

import os
import pty
import select
import subprocess
import time
from collections.abc import Mapping, Sequence

REPLY_LIMIT_S = 5.0  # until a line is typed again: a client may be about to reconnect


class Terminal:
    """A program on a pseudo-terminal, with all that it has shown.

    Parameters
    ----------
    command : sequence of str
        The program.
    env : mapping
        Its environment.
    """

    def __init__(self, command: Sequence[str], env: Mapping[str, str]) -> None:
        self._ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, env=env, start_new_session=True
        )
        os.close(theirs)
        self.shown = ""

    def type(self, line: str) -> None:
        os.write(self._ours, f"{line}\r".encode())

    def shows(self, text: str, limit: float = 30.0) -> bool:
        """Read until a text is shown, or for so many seconds."""
        deadline = time.monotonic() + limit
        while text not in self.shown:
            left = deadline - time.monotonic()
            if left < 0 or not select.select([self._ours], [], [], left)[0]:
                return False
            try:
                self.shown += os.read(self._ours, 65536).decode(errors="replace")
            except OSError:  # the program has exited
                return False
        return True

    def answers(self, word: str) -> bool:
        """Type a line whose output is not in the line itself, and wait for that."""
        self.type(f"print('{word}', 6 * 7)")
        return self.shows(f"{word} 42", REPLY_LIMIT_S)

    def close(self) -> None:
        self.process.kill()
        self.process.wait(30)
        os.close(self._ours)
