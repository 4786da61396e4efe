"""The exit status of ``kconnd-ctl run``, with a session that runs nothing."""

from pathlib import Path
from typing import Any

import pytest

from kconnd.cli.code_piece import CodePiece
from kconnd.cli.run import _execute
from kconnd.core.execution_outcome import INTERRUPTED
from tests.cli.conftest import Ctl
from tests.cli.fake_daemon import FakeDaemon


class FakeSession:
    """Succeeds with every piece of code but ``error`` and ``Ctrl-C``."""

    came_late = False

    def __init__(self) -> None:
        self.executed: list[str] = []

    def execute(self, piece: CodePiece) -> int:
        self.executed.append(piece.code)
        if piece.code == "Ctrl-C":
            raise KeyboardInterrupt
        return 3 if piece.code == "error" else 0

    def fate_of_code(self) -> str:
        return "the code still runs"


@pytest.mark.parametrize(
    ("sources", "count", "exit_code"),
    [
        (["1", "2"], 2, 0),
        (["1", "error", "2"], 2, 3),
        (["1", "Ctrl-C", "2"], 2, INTERRUPTED),
    ],
)
def test_the_first_piece_that_fails_is_the_last(
    sources: list[str], count: int, exit_code: int
) -> None:
    session: Any = FakeSession()
    assert _execute(session, [CodePiece(source) for source in sources]) == exit_code
    assert session.executed == sources[:count]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "a"], "FILE or -c CODE is missing"),
        (["run", "a", "-c", "1", "--timeout", "soon"], "--timeout: 'soon' is not a duration"),
        (["run", "a", "/nowhere/x.py"], "reading /nowhere/x.py: No such file"),
    ],
)
def test_a_mistake_starts_no_kernel(
    words: list[str], message: str, ctl: Ctl, daemon: FakeDaemon
) -> None:
    outcome = ctl(*words)
    assert (outcome.code, message in outcome.err) == (2, True)
    assert not daemon.requests


def test_a_file_that_is_not_text_is_a_mistake(ctl: Ctl, folder: Path) -> None:
    (folder / "x.py").write_bytes(b"\xff")
    assert f"reading {folder}/x.py: 'utf-8' codec" in ctl("run", "a", str(folder / "x.py")).err
