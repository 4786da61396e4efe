"""A kernel spec with a bare ``python3``: which interpreter a start and its restarts run."""

import json
import os
import sys
from pathlib import Path

import pytest

from tests.end_to_end.daemon import SMALL_KERNEL, Daemon, DaemonError

ORIGIN = "it runs {}/jupyter, the first on the PATH of the session in which it was started"


def install(folder: Path, *command: str) -> None:
    """Install a kernel spec."""
    folder.mkdir(parents=True)
    argv = [*command, "{connection_file}"]
    content = {"argv": argv, "display_name": "mine", "language": "python"}
    (folder / "kernel.json").write_text(json.dumps(content))


def environment(folder: Path) -> Path:
    """Make an environment with Jupyter; return its ``bin``."""
    programs = folder / "bin"
    programs.mkdir(parents=True)
    python = programs / "python3"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (programs / "jupyter").write_text(f"#!{python}\n")
    for name in ("python3", "jupyter"):
        (programs / name).chmod(0o755)
    return programs


def start(daemon: Daemon, data: Path) -> None:
    env = {**os.environ, "JUPYTER_DATA_DIR": str(data), "JUPYTER_PATH": ""}
    daemon.start(env=env)


def program_of(daemon: Daemon) -> tuple[str, str]:
    info = daemon.info("mine")
    with open(f"/proc/{info['pid']}/environ", "rb") as stream:  # noqa: PTH123  # of a process
        path = next(word for word in stream.read().split(b"\0") if word.startswith(b"PATH="))
    assert path.split(b":")[0] == b"PATH=" + os.fsencode(os.path.dirname(info["program"]))  # noqa: PTH120
    return info["program"], info["program_origin"]


def test_a_restart_keeps_the_interpreter_that_the_start_has_found(
    daemon: Daemon, folder: Path
) -> None:
    install(folder / "data/kernels/mine", "python3", str(SMALL_KERNEL))
    first, second = (environment(folder / name) for name in ("first", "second"))
    start(daemon, folder / "data")
    with pytest.raises(DaemonError) as caught:
        daemon.post("mine", "start", session={"path": str(folder)})
    searched = "searched: jupyter on the PATH of the session in which it was started"
    assert f"it could be any interpreter; {searched} ({folder})" in caught.value.message
    assert "[PATH, " in caught.value.hint

    daemon.post("mine", "start", session={"path": f"{first}:{second}"})
    program, origin = program_of(daemon)
    assert program == str(first / "python3")
    assert origin == ORIGIN.format(first)
    daemon.post("mine", "restart", session={"path": str(second)})
    assert program_of(daemon)[0] == str(first / "python3")
    daemon.kill()
    start(daemon, folder / "data")
    assert program_of(daemon)[0] == str(first / "python3")
    daemon.post("mine", "restart")
    assert program_of(daemon)[0] == str(first / "python3")

    (first / "python3").unlink()
    with pytest.raises(DaemonError, match="with which the kernel was started, does not exist"):
        daemon.post("mine", "restart")
    daemon.post("mine", "stop")
    daemon.post("mine", "start", session={"path": str(second)})
    assert program_of(daemon) == (str(second / "python3"), ORIGIN.format(second))


def test_a_program_of_the_user_is_found_on_the_path_of_the_session(
    daemon: Daemon, folder: Path
) -> None:
    install(folder / "data/kernels/mine", "my-kernel")
    programs = environment(folder / "env")
    (programs / "my-kernel").write_text(f'#!/bin/sh\nexec {programs}/python3 {SMALL_KERNEL} "$@"\n')
    (programs / "my-kernel").chmod(0o755)
    start(daemon, folder / "data")
    with pytest.raises(DaemonError) as caught:
        daemon.post("mine", "start", session={"path": "/no/bin:/usr/bin"})
    assert "no such program; searched: " in caught.value.message
    assert caught.value.message.endswith("/no/bin, /usr/bin")
    daemon.post("mine", "start", session={"path": f"/no/bin:/usr/bin:{programs}"})
    info = daemon.info("mine")
    assert (info["program"], info["program_origin"]) == (f"{programs}/my-kernel", "on its PATH")
