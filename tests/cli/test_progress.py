"""What kernels wait for is printed once for each reason, while a request is in progress."""

import pytest

from kconnd.cli.progress import Progress
from kconnd.client import Client
from tests.cli.fake_daemon import FakeDaemon


def test_each_reason_is_printed_once_and_the_way_out_with_the_first(
    daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    progress = Progress(Client(str(daemon.path)), "stop")

    def request() -> str:
        for reason in (None, "its child", "its child", "its exit\nafter SIGTERM", None):
            daemon.add("lab", waits_for=reason)
            progress._poll("lab")
        return "done"

    assert progress.during("lab", request) == "done"
    progress._poll("lab")  # the request has ended
    assert capsys.readouterr().err.splitlines() == [
        "lab waits for its child",
        "  kconnd-ctl stop --now lab ends the wait",
        "lab waits for its exit after SIGTERM",
    ]


def test_a_short_request_prints_nothing_and_ends_the_watch(
    daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.add("lab", waits_for="its child")
    with Progress(Client(str(daemon.path)), "stop") as progress:
        assert progress.during("lab", lambda: 7) == 7
    assert not progress._thread.is_alive()
    assert capsys.readouterr().err == ""
