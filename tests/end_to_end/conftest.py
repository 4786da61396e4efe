"""Fixtures: a real daemon in a temporary folder."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.daemon import Daemon


@pytest.fixture
def folder() -> Iterator[Path]:
    """Give a folder with a path that is short enough for sockets."""
    path = Path(tempfile.mkdtemp(prefix="kc-", dir="/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def daemon(folder: Path) -> Iterator[Daemon]:
    """Give a daemon that the test has to start."""
    with Daemon(folder) as daemon:
        yield daemon
