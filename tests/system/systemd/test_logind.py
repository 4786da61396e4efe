"""The login manager's setting, as ``busctl`` prints it."""

from pathlib import Path

import pytest

from kconnd.system.systemd.logind import removes_ipc


@pytest.mark.parametrize(
    ("script", "is_removed"),
    [
        ("echo b true", True),
        ("echo b false", False),
        ("echo 'Failed to get property' >&2; exit 1", False),
        (None, False),
    ],
)
def test_shared_memory_is_removed_only_where_logind_says_so(
    script: str | None, is_removed: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if script is not None:
        (tmp_path / "busctl").write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        (tmp_path / "busctl").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert removes_ipc() is is_removed
