"""A console that is attached goes on working over a restart and a crash of its kernel."""

import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from tests.conftest import wait_for
from tests.end_to_end.daemon import IPYKERNEL, Daemon, client

CTL = (sys.executable, "-m", "kconnd.cli.main")
REPLY_LIMIT_S = 5.0  # until a line is typed again: a client may be about to reconnect


class Terminal:
    """A program on a pseudo-terminal, with all that it has shown.

    Parameters
    ----------
    command : tuple of str
        The program.
    env : dict
        Its environment.
    """

    def __init__(self, command: tuple[str, ...], env: dict[str, str]) -> None:
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
            self.shown += os.read(self._ours, 65536).decode(errors="replace")
        return True

    def answers(self, word: str) -> bool:
        """Type a line whose output is not in the line itself, and wait for that."""
        self.type(f"print('{word}', 6 * 7)")
        return self.shows(f"{word} 42", REPLY_LIMIT_S)

    def close(self) -> None:
        self.process.kill()
        self.process.wait(30)
        os.close(self._ours)


def test_a_kernel_publishes_whether_its_end_is_a_restart(daemon: Daemon) -> None:
    daemon.profile("lab", IPYKERNEL)
    daemon.start()
    file = daemon.post("lab", "start")["connection_file"]

    def announced(verb: str) -> bool:
        with client(file) as attached:
            daemon.post("lab", verb)
            while True:
                message = attached.get_iopub_msg(timeout=30)
                if message["msg_type"] == "shutdown_reply":
                    return bool(message["content"]["restart"])

    assert announced("restart")
    assert not announced("stop")


@pytest.fixture
def terminal(daemon: Daemon) -> Iterator[Terminal]:
    daemon.profile("lab", IPYKERNEL)
    daemon.start()
    daemon.post("lab", "start")
    env = {**os.environ, "TERM": "xterm", "KCONND_SOCKET": str(daemon.socket)}
    found = Terminal((*CTL, "console", "lab"), env)
    assert found.shows("In [")
    yield found
    found.close()


def test_a_console_goes_on_over_a_restart_and_a_crash(daemon: Daemon, terminal: Terminal) -> None:
    assert terminal.answers("first")
    daemon.post("lab", "restart")
    wait_for(lambda: terminal.answers("second"), "the console after a restart")

    os.kill(daemon.info("lab")["pid"], signal.SIGKILL)
    wait_for(lambda: daemon.info("lab")["generation"] == 3, "the kernel to be launched again")
    daemon.wait_state("lab", "running")
    wait_for(lambda: terminal.answers("third"), "the console after a crash")
