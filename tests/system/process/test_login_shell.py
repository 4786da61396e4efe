"""PATH of real login shells, whatever their start-up files do."""

import os
import shutil
import time
from pathlib import Path

import pytest

from kconnd.core.launch.plan import SYSTEM_PATH
from kconnd.system.process.login_shell import ask_path
from tests.conftest import wait_for

# The start-up file of each shell, and a line in it that prepends a folder to PATH.
STARTUP = {
    "sh": (".profile", "PATH=$HOME/bin:$PATH; export PATH"),
    "dash": (".profile", "PATH=$HOME/bin:$PATH; export PATH"),
    "bash": (".bash_profile", "export PATH=$HOME/bin:$PATH"),
    "zsh": (".zprofile", "export PATH=$HOME/bin:$PATH"),
    "fish": (".config/fish/config.fish", "set -gx PATH $HOME/bin $PATH"),
    "tcsh": (".login", "setenv PATH $HOME/bin:$PATH"),
}


def environment(home: Path) -> dict[str, str]:
    return {"HOME": str(home), "USER": "me", "LOGNAME": "me", "PATH": SYSTEM_PATH}


def write(home: Path, file: str, text: str) -> None:
    path = home / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")


@pytest.mark.parametrize("shell", STARTUP)
def test_path_is_that_after_the_start_up_files(shell: str, tmp_path: Path) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed")
    file, line = STARTUP[shell]
    write(tmp_path, file, f"echo junk\n{line}\necho kconnd-path:junk")
    folders = ask_path(program, environment(tmp_path)).split(":")
    assert folders[0] == f"{tmp_path}/bin"
    assert set(SYSTEM_PATH.split(":")) <= set(folders)


@pytest.mark.parametrize(
    "line",
    [
        "sleep 60",
        "while :; do echo junk; done",
        "read answer < /dev/tty || sleep 60",
        "exit 3",
        "exec sleep 60",
        "PATH=",
    ],
)
def test_a_start_up_file_that_never_ends_or_fails_is_an_error_in_time(
    line: str, tmp_path: Path
) -> None:
    write(tmp_path, ".profile", line)
    since = time.monotonic()
    with pytest.raises(OSError, match="did not print it"):
        ask_path("/bin/sh", environment(tmp_path), limit_s=0.3)
    assert time.monotonic() - since < 5


def test_processes_that_the_start_up_file_leaves_are_killed(tmp_path: Path) -> None:
    """Such a process has the pipe open; nobody waits for it."""
    write(tmp_path, ".profile", f"sleep 60 &\necho $! > {tmp_path}/pid")
    ask_path("/bin/sh", environment(tmp_path))
    pid = int((tmp_path / "pid").read_text())
    wait_for(lambda: not os.path.exists(f"/proc/{pid}/exe"), "its end")  # noqa: PTH110  # a text


def test_a_shell_that_cannot_be_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        ask_path(str(tmp_path / "none"), environment(tmp_path))
