"""Fixture: a fake machine for each test, in a folder with a path short enough for sockets."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hostile_owner.machine import Machine, place_at


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    with tempfile.TemporaryDirectory(prefix="kc") as path:
        place_at(Path(path), monkeypatch)
        with Machine(Path(path)) as machine:
            yield machine
