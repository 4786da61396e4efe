"""A session with a scripted kernel: the exit status of code, and when no code is sent."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kconnd.cli.code_piece import CodePiece
from kconnd.cli.command_line import parse_arguments
from kconnd.cli.grammar import VERBS
from kconnd.cli.kernel_session import KernelSession
from kconnd.cli.message_output import MessageOutput
from kconnd.client import Client
from kconnd.errors import NotRunningError, TimedOutError
from tests.cli.fake_daemon import FakeDaemon
from tests.cli.scripted_kernel import ScriptedKernel, finish


def play(kernel: ScriptedKernel) -> None:
    """Print the code, and fail if it is ``x``."""
    kernel.publish("stream", name="stdout", text=f"{kernel.codes[-1]}\n")
    finish(kernel, "error" if kernel.codes[-1] == "x" else "ok")


@pytest.fixture
def kernel(daemon: FakeDaemon, folder: Path) -> Iterator[ScriptedKernel]:
    with ScriptedKernel(folder, play) as kernel:
        daemon.add("a", connection_file=str(kernel.file))
        yield kernel


def connect(daemon: FakeDaemon, limit_s: float = 30) -> KernelSession:
    arguments = parse_arguments(VERBS["run"], ["a", "-c", "1"])
    output = MessageOutput(as_json=False, is_own=True, folder=None)
    deadline = time.monotonic() + limit_s
    return KernelSession(
        Client(str(daemon.path)), dict(daemon.kernels["a"]), arguments, deadline, output
    )


def test_each_piece_of_code_has_its_exit_status(
    daemon: FakeDaemon, kernel: ScriptedKernel, capsys: pytest.CaptureFixture[str]
) -> None:
    session = connect(daemon)
    assert [session.execute(CodePiece(code)) for code in ("1", "x", "2")] == [0, 1, 0]
    session.close()
    assert kernel.codes == ["1", "x", "2"]
    assert capsys.readouterr().out == "1\nx\n2\n"


def test_a_kernel_that_was_restarted_meanwhile_gets_no_code(
    daemon: FakeDaemon, kernel: ScriptedKernel
) -> None:
    session = connect(daemon)
    daemon.kernels["a"]["generation"] += 1
    with pytest.raises(NotRunningError, match="the kernel ended"):
        session.execute(CodePiece("1"))
    session.close()
    assert not kernel.codes


def test_after_the_limit_no_code_is_sent(daemon: FakeDaemon, kernel: ScriptedKernel) -> None:
    session = connect(daemon, limit_s=-1)
    with pytest.raises(TimedOutError, match="was not idle within") as caught:
        session.execute(CodePiece("1"))
    session.close()
    assert "the code will not run" in caught.value.hint
    assert not kernel.codes
