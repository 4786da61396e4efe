"""Real daemons for tests, each in short-lived folders of its own."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.daemon import Daemon


@pytest.fixture
def folder() -> Iterator[Path]:
    """Give a folder with a short path, which sockets need."""
    path = Path(tempfile.mkdtemp(prefix="kc-", dir="/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def daemon(folder: Path) -> Iterator[Daemon]:
    """Give a daemon that is not started yet."""
    with Daemon(folder) as found:
        yield found
