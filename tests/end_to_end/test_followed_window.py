"""The Qt console of kconnd on real kernels, with its window on Qt's offscreen platform."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import wait_for
from tests.end_to_end.daemon import IPYKERNEL, Daemon, begin, client

DRIVER = Path(__file__).with_name("offscreen_window.py")
# An interrupt right before a sleep takes effect after the sleep.
SHORT_SLEEPS = "[__import__('time').sleep(0.1) for _ in range(6000)]"
# Without the variable, a starting debugger can print a warning into the output of the first cell.
QUIET = f"{IPYKERNEL}env: {{PYDEVD_DISABLE_FILE_VALIDATION: '1'}}\n"
ENCRYPTED = f"{QUIET}transport: tcp\nencryption: curve\n"


class Window:
    """A Qt console without a screen.

    Parameters
    ----------
    folder : Path
        The folder of the files by which it is driven.
    environment : dict
        The environment of its process.
    arguments : str
        The kernel's name, the daemon's socket, and options of the console.
    """

    def __init__(self, folder: Path, environment: dict[str, str], *arguments: str) -> None:
        self._commands, self._text = folder / "commands", folder / "text"
        self._commands.write_text("", encoding="utf-8")
        command = [sys.executable, "-P", str(DRIVER), str(self._commands), str(self._text)]
        self.process = subprocess.Popen([*command, *arguments], env=environment)

    def execute(self, line: str) -> None:
        with self._commands.open("a", encoding="utf-8") as commands:
            commands.write(f"{line}\n")

    def has_executed(self, count: int) -> bool:
        done = self._text.with_suffix(".done")
        return done.exists() and done.read_text(encoding="utf-8") == str(count)

    @property
    def text(self) -> str:
        return self._text.read_text(encoding="utf-8") if self._text.exists() else ""

    def wait_for(self, *texts: str) -> None:
        """Wait until the window shows all texts, in this order."""
        wait_for(lambda: self._has(texts), f"{texts} in the window, which shows: {self.text}", 60)

    def _has(self, texts: tuple[str, ...]) -> bool:
        rest = self.text
        for text in texts:
            _, found, rest = rest.partition(text)
            if not found:
                return False
        return True


Open = Callable[..., Window]


@pytest.fixture
def open_window(daemon: Daemon, tmp_path: Path) -> Iterator[Open]:
    windows: list[Window] = []

    def open_window(profile: str) -> Window:
        daemon.profile("lab", profile)
        if daemon.process is None:
            daemon.start()
        file = daemon.post("lab", "start")["connection_file"]
        env = {**os.environ, "QT_QPA_PLATFORM": "offscreen", "QT_API": "pyside6"}
        options = ["--existing", file, "--JupyterWidget.confirm_restart=False"]
        windows.append(Window(tmp_path, env, "lab", str(daemon.socket), *options))
        return windows[-1]

    yield open_window
    for window in windows:
        window.process.kill()
        window.process.wait(30)


def test_an_encrypted_kernel_is_restarted_and_the_first_line_runs(
    daemon: Daemon, open_window: Open
) -> None:
    window = open_window(ENCRYPTED)
    window.wait_for("In [1]:")
    window.execute("x = 6 * 7; x")
    window.wait_for("Out[1]: 42", "In [2]:")
    daemon.post("lab", "restart")
    restarted = "lab was restarted (restart was requested): its variables are gone"
    window.wait_for("Out[1]: 42", restarted, "In [1]:")
    window.execute("globals().get('x', 'fresh')")
    window.wait_for(restarted, "Out[1]: 'fresh'", "In [2]:")


def test_a_crash_in_a_cell_gives_a_new_prompt(daemon: Daemon, open_window: Open) -> None:
    window = open_window(QUIET)
    window.wait_for("In [1]:")
    window.execute("print('be' + 'gun'); __import__('time').sleep(600)")
    window.wait_for("begun")
    os.kill(daemon.info("lab")["pid"], signal.SIGKILL)
    window.wait_for("begun", "lab was restarted (killed by SIGKILL)", "In [1]:")
    window.execute("6 * 7")
    window.wait_for("killed by SIGKILL", "Out[1]: 42")
    assert "Kernel died" not in window.text


def test_a_prompt_that_the_old_process_was_asked_for_comes_from_the_new_one(
    daemon: Daemon, open_window: Open
) -> None:
    window = open_window(QUIET)
    window.wait_for("In [1]:")
    pid = daemon.info("lab")["pid"]
    os.kill(pid, signal.SIGSTOP)
    window.execute("!_show_interpreter_prompt")
    wait_for(lambda: window.has_executed(1), "the request")
    os.kill(pid, signal.SIGKILL)
    restarted = "lab was restarted (killed by SIGKILL)"
    window.wait_for(restarted)
    window.execute("print('be' + 'gun'); __import__('time').sleep(600)")
    window.wait_for("begun")
    os.kill(daemon.info("lab")["pid"], signal.SIGKILL)
    window.wait_for(restarted, "begun", restarted, "In [1]:")


def test_the_menu_goes_through_the_daemon_and_a_refusal_is_shown(
    daemon: Daemon, open_window: Open
) -> None:
    window = open_window(QUIET)
    window.wait_for("In [1]:")
    window.execute(f"print('be' + 'gun'); {SHORT_SLEEPS}")
    window.wait_for("begun")
    window.execute("!request_interrupt_kernel")
    window.wait_for("KeyboardInterrupt", "In [2]:")
    window.execute("!request_restart_kernel")
    window.wait_for("lab was restarted (restart was requested)", "In [1]:")
    assert daemon.info("lab")["generation"] == 2
    daemon.post("lab", "stop")
    window.wait_for("lab is stopped: stop was requested; kconnd-ctl start lab starts it")
    window.execute("!interrupt_kernel")
    window.wait_for("interrupting lab: ")
    assert window.process.poll() is None
    daemon.post("lab", "start")
    window.wait_for("lab has a new process with another key (stop was requested): close this")


def test_a_busy_kernel_is_named_as_the_reason_of_the_wait(
    daemon: Daemon, open_window: Open
) -> None:
    daemon.profile("lab", IPYKERNEL)
    daemon.start()
    with client(daemon.post("lab", "start")["connection_file"]) as attached:
        begin(attached, f"print(1, flush=True); {SHORT_SLEEPS}")
        window = open_window(QUIET)
        window.wait_for("lab has not answered yet: it is running a cell")
        daemon.post("lab", "interrupt")
        window.wait_for("In [2]:")
