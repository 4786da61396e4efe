"""Qt consoles on a kconnd kernel: in a real window, and on Qt's offscreen platform."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import wait_for
from tests.end_to_end.daemon import Daemon, DaemonError, run
from tests.end_to_end.test_ctl import CTL, IPYKERNEL, ctl

TOOLS = ("Xvfb", "openbox", "xdotool", "import")
missing = [tool for tool in TOOLS if not shutil.which(tool)]
needs_screen = pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")
OFFSCREEN = {"QT_QPA_PLATFORM": "offscreen"}


@pytest.fixture
def lab(daemon: Daemon) -> Daemon:
    daemon.profile("lab", IPYKERNEL)
    return daemon.start()


@pytest.fixture
def screen(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Give the environment of a session with a display and a window manager."""
    read, write = os.pipe()
    command = [
        tool("Xvfb"),
        "-displayfd",
        str(write),
        "-screen",
        "0",
        "1000x700x24",
        "-nolisten",
        "tcp",
    ]
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    server = subprocess.Popen(command, pass_fds=[write], **quiet)
    os.close(write)
    with os.fdopen(read) as stream:
        display = f":{stream.readline().strip()}"
    env = {**os.environ, "DISPLAY": display, "XDG_RUNTIME_DIR": str(tmp_path), "QT_API": "pyside6"}
    manager = subprocess.Popen([tool("openbox")], env=env, **quiet)
    try:
        yield env
    finally:
        for process in (manager, server):
            process.kill()
            process.wait()


def xdotool(env: dict[str, str], *arguments: str) -> str:
    return subprocess.run(
        [tool("xdotool"), *arguments],
        env=env,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout.strip()


@needs_screen
def test_a_real_window_is_typed_into(lab: Daemon, screen: dict[str, str], tmp_path: Path) -> None:
    env = {**screen, "KCONND_SOCKET": str(lab.socket)}
    command = [*CTL, "qtconsole", "lab", "--", "--no-confirm-exit"]
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    consoles = [subprocess.Popen(command, env=env, **quiet)]
    found = xdotool(screen, "search", "--sync", "--onlyvisible", "--name", "Jupyter").split()
    window = found[0]
    file = lab.wait_state("lab", "running")["connection_file"]
    wait_for(lambda: lab.info("lab")["clients"] == 1, "the console to attach")
    wait_for(lambda: typed(screen, window, file), "what was typed to be in the kernel", 60)
    kept = Path(os.environ.get("KCONND_TEST_ARTIFACTS", tmp_path)) / "qtconsole.png"
    subprocess.run([tool("import"), "-window", window, str(kept)], env=screen, check=True)
    assert kept.stat().st_size > 1000
    consoles.append(subprocess.Popen(command, env=env, **quiet))
    wait_for(lambda: lab.info("lab")["clients"] == 2, "a second console on it")
    wait_for(lambda: len(windows(screen)) == 2, "its window")
    for left in (1, 0):  # close one after the other, as a person would
        xdotool(screen, "windowactivate", "--sync", windows(screen)[0], "key", "alt+F4")
        wait_for(lambda left=left: alive(consoles) == left, "a console to end")  # type: ignore[misc]  # a count
    assert [process.returncode for process in consoles] == [0, 0]
    assert run(file, "print(typed_here)") == "42\n"


@needs_screen
def test_a_window_interrupts_and_restarts_an_encrypted_kernel(
    daemon: Daemon, screen: dict[str, str], tmp_path: Path
) -> None:
    daemon.profile("lab", f"{IPYKERNEL}transport: tcp\nencryption: curve\n")
    daemon.start()
    env = {**screen, "KCONND_SOCKET": str(daemon.socket)}
    command = [*CTL, "qtconsole", "lab", "--", "--no-confirm-exit"]
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    console = subprocess.Popen(command, env=env, **quiet)
    window = xdotool(screen, "search", "--sync", "--onlyvisible", "--name", "Jupyter").split()[0]
    file = daemon.wait_state("lab", "running")["connection_file"]
    wait_for(lambda: typed(screen, window, file), "what was typed to be in the kernel", 60)

    gate = tmp_path / "gate"
    type_line(screen, f"open({str(gate)!r}, 'w'); __import__('time').sleep(600)")
    wait_for(gate.exists, "the cell to run")
    wait_for(lambda: daemon.info("lab")["execution_state"] == "busy", "the kernel to be busy")
    wait_for(lambda: interrupted(daemon, screen), "the interrupt to end the cell")

    xdotool(screen, "key", "ctrl+period")
    dialog = xdotool(
        screen, "search", "--sync", "--onlyvisible", "--name", "Restart kernel"
    ).split()
    xdotool(screen, "windowfocus", "--sync", dialog[0], "key", "alt+y")
    wait_for(lambda: daemon.info("lab")["generation"] == 2, "the restart")
    daemon.wait_state("lab", "running")
    assert run(file, "print(globals().get('typed_here'))") == "None\n"
    xdotool(screen, "windowfocus", "--sync", window)
    type_line(screen, "first_line = 6 * 7; print('first line', first_line)")  # once
    in_kernel = "print(globals().get('first_line'))"
    wait_for(lambda: run(file, in_kernel) == "42\n", "the first line to run")
    kept = Path(os.environ.get("KCONND_TEST_ARTIFACTS", tmp_path)) / "qtconsole-restart.png"
    subprocess.run([tool("import"), "-window", window, str(kept)], env=screen, check=True)
    xdotool(screen, "windowactivate", "--sync", window, "key", "alt+F4")
    assert console.wait(30) == 0
    assert daemon.state_of("lab") == "running"


def interrupted(daemon: Daemon, env: dict[str, str]) -> bool:
    xdotool(env, "key", "ctrl+c")
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline:
        if daemon.info("lab")["execution_state"] == "idle":
            return True
    return False


def type_line(env: dict[str, str], line: str) -> None:
    xdotool(env, "type", "--delay", "15", line)
    xdotool(env, "key", "shift+Return")


def alive(processes: "list[subprocess.Popen[bytes]]") -> int:
    return sum(process.poll() is None for process in processes)


def windows(env: dict[str, str]) -> list[str]:
    return xdotool(env, "search", "--onlyvisible", "--name", "Jupyter").split()


def tool(name: str) -> str:
    found = shutil.which(name)
    assert found
    return found


def typed(env: dict[str, str], window: str, file: str) -> bool:
    """Type a line; a window that just opened may not have the focus yet."""
    xdotool(env, "windowfocus", "--sync", window)
    line = "typed_here = 6 * 7; print('typed into process', __import__('os').getpid())"
    type_line(env, line)
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline:
        if run(file, "print(globals().get('typed_here'))") == "42\n":
            return True
    return False


def test_the_daemon_opens_one_and_records_its_end(lab: Daemon) -> None:
    lab.post("lab", "start")
    plan = lab.get("/v1/kernels/lab/qtconsole")
    program = ["-P", "-m", "kconnd.jupyter.qtconsole_app", "lab", str(lab.socket)]
    assert plan["argv"][1:] == [*program, "--existing", plan["connection_file"]]
    assert "DISPLAY" in plan["environment"]
    opened = lab.post("lab", "qtconsole", environment={**OFFSCREEN, "LD_PRELOAD": "/evil"})
    wait_for(lambda: lab.info("lab")["clients"] == 1, "the console to attach", 60)
    environment = Path(f"/proc/{opened['pid']}/environ").read_bytes()
    assert b"LD_PRELOAD" not in environment
    listed = lab.info("lab")["consoles"]
    assert [(one["pid"], one["code"]) for one in listed] == [(opened["pid"], None)]
    os.kill(opened["pid"], signal.SIGTERM)
    wait_for(lambda: lab.info("lab")["consoles"][0]["code"] is not None, "its end to be seen")
    assert lab.info("lab")["consoles"][0]["code"] == -signal.SIGTERM
    assert lab.state_of("lab") == "running"


def test_a_console_that_fails_is_explained(lab: Daemon) -> None:
    lab.post("lab", "start")
    lab.post("lab", "qtconsole", environment={"DISPLAY": ":99", "QT_QPA_PLATFORM": "xcb"})
    wait_for(lambda: lab.info("lab")["consoles"][0]["code"] is not None, "its end", 60)
    ended = lab.info("lab")["consoles"][0]
    assert ended["code"] != 0
    assert "display" in ended["reason"] or "plugin" in ended["reason"]
    assert ended["output_tail"]


def test_what_cannot_be_opened_has_its_own_sentence(lab: Daemon) -> None:
    with pytest.raises(DaemonError, match="it is stopped") as caught:
        lab.post("lab", "qtconsole", environment=OFFSCREEN)
    assert caught.value.code == "not-running"
    lab.post("lab", "start")
    with pytest.raises(DaemonError, match="the request names no display") as caught:
        lab.post("lab", "qtconsole", environment={})
    assert "kconnd-ctl console lab" in caught.value.hint
    with pytest.raises(DaemonError, match="options: it is not a list"):
        lab.post("lab", "qtconsole", environment=OFFSCREEN, options="x")


def test_the_terminal_is_told_what_is_wrong_with_the_screen(lab: Daemon) -> None:
    screens = ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")
    bare = {name: value for name, value in os.environ.items() if name not in screens}
    command = [*CTL, "--socket", str(lab.socket), "qtconsole", "lab"]

    def attempt(**more: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            command, capture_output=True, text=True, check=False, env={**bare, **more}
        )

    none = attempt()
    assert none.returncode == 1
    assert "this session has no display" in none.stderr
    assert "kconnd-ctl console lab opens a console in this terminal" in none.stderr
    assert lab.state_of("lab") == "stopped"  # nothing was started in vain
    dead = attempt(DISPLAY=":99", QT_QPA_PLATFORM="xcb")
    assert dead.returncode == 1
    assert "opening a Qt console on lab: " in dead.stderr
    assert "kconnd-ctl console lab" in dead.stderr
    assert "Traceback" not in dead.stderr.splitlines()[0]
    shown = ctl(lab, "qtconsole", "lab", "--json", "--", "--style=monokai")
    assert shown.json["argv"][-1] == "--style=monokai"
