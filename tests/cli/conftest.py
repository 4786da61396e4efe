"""A fake daemon, and ``kconnd-ctl`` run against it, within the test or as a process."""

import json
import os
import pty
import subprocess
import sys
import tempfile
import termios
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kconnd.cli.main import main
from tests.cli.fake_daemon import FakeDaemon

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Outcome:
    """What came of a command."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """Read stdout, all of it, as one JSON document."""
        return json.loads(self.out)


Ctl = Callable[..., Outcome]


@pytest.fixture
def folder() -> Iterator[Path]:
    """Give a folder with a short path: a socket's is limited to 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="kc") as path:
        yield Path(path)


@pytest.fixture
def daemon(folder: Path) -> Iterator[FakeDaemon]:
    with FakeDaemon(folder / "s") as found:
        yield found


@pytest.fixture
def ctl(folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Ctl:
    """Run ``kconnd-ctl`` here, against the fake daemon's socket."""
    monkeypatch.setenv("KCONND_SOCKET", str(folder / "s"))

    def run(*arguments: str) -> Outcome:
        capfd.readouterr()
        code = main(list(arguments))
        sys.stdout.flush()
        out, err = capfd.readouterr()
        return Outcome(code, out, err)

    return run


def ctl_process(*arguments: str, **options: Any) -> "subprocess.Popen[bytes]":
    """Start ``kconnd-ctl`` as a process that buffers its output, as it does in a pipeline."""
    around = options.pop("env", None) or os.environ
    options["env"] = {key: around[key] for key in around if key != "PYTHONUNBUFFERED"}
    command = [sys.executable, "-W", "error", "-m", "kconnd.cli.main", *arguments]
    return subprocess.Popen(command, cwd=ROOT, **options)


def on_a_terminal(
    *arguments: str, typed: str = "", columns: int = 0, **env: str
) -> tuple[int, str]:
    """Run ``kconnd-ctl`` on a pseudo-terminal; give its exit code and all that it showed."""
    ours, theirs = pty.openpty()
    if columns:
        termios.tcsetwinsize(theirs, (24, columns))
    around = os.environ | {"TERM": "xterm"} | env
    process = ctl_process(*arguments, stdin=theirs, stdout=theirs, stderr=theirs, env=around)
    os.close(theirs)
    os.write(ours, typed.encode())
    shown = b""
    while piece := _read_terminal(ours):
        shown += piece
    os.close(ours)
    return process.wait(), shown.decode().replace("\r\n", "\n")


def _read_terminal(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # EIO: the other side is closed (pty(7))
        return b""
