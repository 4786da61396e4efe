"""Folders for connection files of a test's own, with paths that are short enough for sockets."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from kconnd import connect
from kconnd.core import paths


@contextlib.contextmanager
def connection_folders(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Have Jupyter and kconnd keep their files in a new folder, and yield this folder."""
    with tempfile.TemporaryDirectory(prefix="kc-", dir="/tmp") as name:
        folder = Path(name)
        monkeypatch.setenv("JUPYTER_RUNTIME_DIR", f"{name}/jupyter")
        monkeypatch.setattr(connect, "_runtime_dir", lambda: folder / "kconnd")
        monkeypatch.setattr(paths, "runtime_dir", lambda *_, **__: f"{name}/kconnd")
        for variable in ("KCONND_CONNECTION_FILE", "KCONND_SOCKET"):
            monkeypatch.delenv(variable, raising=False)
        yield folder
