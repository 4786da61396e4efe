"""A console that is attached goes on working over a restart and a crash of its kernel."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import wait_for
from tests.end_to_end.daemon import IPYKERNEL, Daemon, client
from tests.terminal import Terminal

ENCRYPTED = f"{IPYKERNEL}transport: tcp\nencryption: curve\n"
CTL = (sys.executable, "-m", "kconnd.cli.main")


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
def opened(daemon: Daemon) -> Iterator[Callable[..., Terminal]]:
    terminals: list[Terminal] = []

    def open_console(*options: str) -> Terminal:
        env = {**os.environ, "TERM": "xterm", "KCONND_SOCKET": str(daemon.socket)}
        terminals.append(Terminal((*CTL, "console", "lab", "--", *options), env))
        return terminals[-1]

    yield open_console
    for terminal in terminals:
        terminal.close()


@pytest.fixture
def terminal(daemon: Daemon, opened: Callable[..., Terminal]) -> Terminal:
    daemon.profile("lab", IPYKERNEL)
    daemon.start()
    daemon.post("lab", "start")
    terminal = opened()
    assert terminal.shows("In [")
    return terminal


def test_a_console_goes_on_over_a_restart_and_a_crash(daemon: Daemon, terminal: Terminal) -> None:
    assert terminal.answers("first")
    daemon.post("lab", "restart")
    wait_for(lambda: terminal.answers("second"), "the console after a restart")

    os.kill(daemon.info("lab")["pid"], signal.SIGKILL)
    wait_for(lambda: daemon.info("lab")["generation"] == 3, "the kernel to be launched again")
    daemon.wait_state("lab", "running")
    wait_for(lambda: terminal.answers("third"), "the console after a crash")


def test_an_encrypted_kernel_is_reached(daemon: Daemon, opened: Callable[..., Terminal]) -> None:
    daemon.profile("lab", ENCRYPTED)
    daemon.start()
    terminal = opened()
    assert terminal.shows("In [")
    assert terminal.answers("encrypted")


def test_jupyters_own_console_reaches_an_encrypted_kernel_by_its_kernel_spec(
    daemon: Daemon, folder: Path
) -> None:
    daemon.profile("lab", ENCRYPTED)
    daemon.start()
    jupyter = {f"JUPYTER_{name}_DIR": str(folder / name) for name in ("DATA", "RUNTIME", "CONFIG")}
    env = {**os.environ, **jupyter, "TERM": "xterm", "KCONND_SOCKET": str(daemon.socket)}
    subprocess.run([*CTL, "kernelspec", "install", "lab"], env=env, check=True)
    terminal = Terminal((sys.executable, "-m", "jupyter_console", "--kernel=kconnd-lab"), env)
    try:
        assert terminal.shows("In [")
        assert terminal.answers("encrypted")
    finally:
        terminal.close()


@pytest.mark.parametrize("options", [(), ("--simple-prompt",)])
def test_a_restart_and_an_end_are_printed(
    daemon: Daemon, opened: Callable[..., Terminal], options: tuple[str, ...]
) -> None:
    daemon.profile("lab", IPYKERNEL)
    daemon.start()
    terminal = opened(*options)
    assert terminal.shows("In [")
    assert terminal.answers("first")
    daemon.post("lab", "restart")
    assert terminal.shows("lab was restarted (restart was requested): its variables are gone")
    assert terminal.answers("second")
    daemon.post("lab", "stop")
    assert terminal.shows("lab is stopped: stop was requested; kconnd-ctl start lab starts it")


def test_a_cell_ends_with_its_process_and_one_of_the_new_process_is_kept(
    daemon: Daemon, opened: Callable[..., Terminal]
) -> None:
    """A forked kernel is back before the heartbeat shows that it was gone."""
    daemon.profile("lab", f"{IPYKERNEL}launcher: fork\nrestart: {{backoff: 100ms}}\n")
    daemon.start()
    terminal = opened()
    assert terminal.shows("In [")
    terminal.type("print('be' + 'gun'); __import__('time').sleep(600)")
    assert terminal.shows("begun")
    os.kill(daemon.info("lab")["pid"], signal.SIGKILL)
    assert terminal.shows("lab was restarted (killed by SIGKILL): its variables are gone")
    assert terminal.answers("next")

    os.kill(daemon.info("lab")["pid"], signal.SIGKILL)
    terminal.type("print('lo' + 'ng'); __import__('time').sleep(2); print('who' + 'le')")
    assert terminal.shows("whole")
    assert terminal.answers("last")
    assert terminal.shown.count("killed by SIGKILL") == 2


def test_the_wait_for_a_busy_kernel_is_explained_and_limited(
    terminal: Terminal, opened: Callable[..., Terminal]
) -> None:
    terminal.type("print('be' + 'gun'); __import__('time').sleep(600)")
    assert terminal.shows("begun")
    waits = "lab has not answered yet: it is running a cell; Ctrl-C ends the wait"
    waiting = opened()
    assert waiting.shows(waits)
    waiting.process.send_signal(signal.SIGINT)
    assert waiting.process.wait(10) == 130
    limited = opened("--ZMQTerminalInteractiveShell.kernel_timeout=3")
    assert limited.shows("it is running a cell; kconnd-ctl interrupt lab interrupts it")
    assert limited.process.wait(10) == 1
    assert "Traceback" not in limited.shown
