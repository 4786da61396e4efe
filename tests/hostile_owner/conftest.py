"""One machine for each test: its folder is short, since a socket's path is limited."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hostile_owner.machine import Machine, place_at


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    with tempfile.TemporaryDirectory(prefix="kc") as path:
        place_at(Path(path), monkeypatch)
        with Machine(Path(path)) as found:
            yield found
