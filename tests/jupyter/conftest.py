"""A daemon, and a Jupyter beside it that knows its profiles: folders of their own for both."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.daemon import Daemon

FORK = f"python: {sys.executable}\nlauncher: fork\n"


@pytest.fixture
def home() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="kj-", dir="/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def jupyter(home: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Give the environment in which Jupyter finds its own folders and the daemon's socket."""
    own = {
        "HOME": str(home),
        "JUPYTER_DATA_DIR": str(home / "data"),
        "JUPYTER_RUNTIME_DIR": str(home / "jupyter"),
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "IPYTHONDIR": str(home / "ipython"),
        "KCONND_SOCKET": str(home / "r" / "kconnd.sock"),
    }
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    return {**os.environ, **own}


@pytest.fixture
def daemon(home: Path, jupyter: dict[str, str]) -> Iterator[Daemon]:
    """Give a daemon with a profile ``lab``, which Jupyter can choose."""
    with Daemon(home) as found:
        found.profile("lab", FORK)
        found.profile("each", f"{FORK}instance: per-session\n")
        found.start(env=jupyter)
        install(jupyter)
        yield found


def install(jupyter: dict[str, str]) -> None:
    """Write kernel specs for all profiles, as a user would."""
    command = [sys.executable, "-m", "kconnd.cli.main", "kernelspec", "install", "--all"]
    subprocess.run(command, env=jupyter, check=True, capture_output=True)
