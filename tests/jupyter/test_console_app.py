"""The console's changes, with a fake shell and a fake daemon; real ones: test_attached_console."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jupyter_console.app import ZMQTerminalIPythonApp

from kconnd.jupyter.console_app import ConsoleClient, KconndConsoleApp, main
from tests.cli.fake_daemon import FakeDaemon
from tests.conftest import wait_for


class Shell:
    """Records the cells that it runs."""

    def __init__(self) -> None:
        self.cells: list[str] = []
        self.exits = 0
        self._executing = False
        self.client = None

    def run_cell(self, cell: str, **_: object) -> None:
        self.cells.append(cell)

    def ask_exit(self) -> None:
        self.exits += 1

    async def prompt_for_code(self) -> str:
        return ""

    def handle_input_request(self) -> None:
        """Do nothing: no kernel requests input."""


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDaemon]:
    folder = tempfile.TemporaryDirectory(prefix="kj-", dir="/tmp")
    with folder as path, FakeDaemon(Path(path, "s")) as daemon:
        daemon.add("lab")
        daemon.replies["GET", "/v1/kernels/lab/why"] = {"name": "lab", "decisions": []}
        monkeypatch.setattr(KconndConsoleApp, "kernel", "lab")
        monkeypatch.setattr(KconndConsoleApp, "socket", str(daemon.path))
        yield daemon


@pytest.fixture
def app(fake: FakeDaemon, monkeypatch: pytest.MonkeyPatch) -> Any:
    def init_shell(self: Any) -> None:
        self.kernel_client = ConsoleClient()
        self.shell = Shell()

    monkeypatch.setattr(ZMQTerminalIPythonApp, "init_shell", init_shell)
    app: Any = KconndConsoleApp()
    app.init_shell()
    fake.requests.clear()
    return app


def test_exit_closes_the_console_and_is_not_run(app: Any) -> None:
    shell = app.shell
    for cell in ("1 + 1", "exit", "x = exit"):
        shell.run_cell(cell)
    assert (shell.cells, shell.exits) == (["1 + 1", "x = exit"], 1)


def test_ctrl_c_interrupts_a_running_cell_through_the_daemon(
    app: Any, fake: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    app.shell._executing = True
    app.handle_sigint()
    wait_for(lambda: ("POST", "/v1/kernels/lab/interrupt") in fake.asked(), "the interrupt")
    fake.kernels.clear()
    app.handle_sigint()
    printed = ""

    def error() -> str:
        nonlocal printed
        printed += capsys.readouterr().err
        return printed

    refusal = "kconnd-ctl: there is no kernel lab\n  kconnd-ctl list\n"
    wait_for(lambda: refusal in error(), "the refusal")


def test_ctrl_c_before_the_first_answer_ends_the_wait(app: Any) -> None:
    app.shell = None
    with pytest.raises(KeyboardInterrupt):
        app.handle_sigint()


def test_the_daemon_knows_better_than_the_heartbeat_whether_the_kernel_lives(
    app: Any, fake: FakeDaemon
) -> None:
    client = app.kernel_client
    assert client.is_alive()  # its channels were never started
    fake.add("lab", state="backoff")
    app.follower.poll()
    assert client.is_alive()
    fake.add("lab", state="failed", reason="it crashed")
    app.follower.poll()
    assert not client.is_alive()


def test_ctrl_c_at_the_prompt_is_jupyters_own(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[object, ...]] = []
    monkeypatch.setattr(
        ZMQTerminalIPythonApp, "handle_sigint", lambda _self, *args: calls.append(args)
    )
    app.handle_sigint(2, None)
    assert calls == [(2, None)]


def test_the_command_line_names_kernel_and_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[Any] = []
    monkeypatch.setattr("sys.argv", ["console_app", "lab", "/s", "--existing", "/file"])
    monkeypatch.setattr(KconndConsoleApp, "kernel", "")
    monkeypatch.setattr(KconndConsoleApp, "socket", "")
    monkeypatch.setattr(
        KconndConsoleApp, "launch_instance", classmethod(lambda _cls, argv: lines.append(argv))
    )
    main()
    assert (KconndConsoleApp.kernel, KconndConsoleApp.socket) == ("lab", "/s")
    assert lines == [["--existing", "/file"]]
