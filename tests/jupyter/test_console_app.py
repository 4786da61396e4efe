"""The console's two changes, with a fake shell and a fake daemon: ``exit`` and Ctrl-C."""

import tempfile
from pathlib import Path
from typing import Any

import pytest
from jupyter_console.app import ZMQTerminalIPythonApp

from kconnd.jupyter.console_app import KconndConsoleApp, main
from tests.cli.fake_daemon import FakeDaemon


class Shell:
    """Records the cells that it runs."""

    def __init__(self) -> None:
        self.cells: list[str] = []
        self.exits = 0
        self._executing = False

    def run_cell(self, cell: str, **_: object) -> None:
        self.cells.append(cell)

    def ask_exit(self) -> None:
        self.exits += 1


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Any:
    def init_shell(self: Any) -> None:
        self.shell = Shell()

    monkeypatch.setattr(ZMQTerminalIPythonApp, "init_shell", init_shell)
    app: Any = KconndConsoleApp()
    app.init_shell()
    return app


def test_exit_closes_the_console_and_is_not_run(app: Any) -> None:
    shell = app.shell
    for cell in ("1 + 1", "exit", "x = exit"):
        shell.run_cell(cell)
    assert (shell.cells, shell.exits) == (["1 + 1", "x = exit"], 1)


def test_ctrl_c_interrupts_a_running_cell_through_the_daemon(
    app: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    with tempfile.TemporaryDirectory(prefix="kj-", dir="/tmp") as folder:
        app.kernel, app.socket = "lab", str(Path(folder, "s"))
        app.shell._executing = True
        with FakeDaemon(Path(app.socket)) as daemon:
            daemon.add("lab")
            app.handle_sigint()
            assert daemon.asked() == [("POST", "/v1/kernels/lab/interrupt")]
            daemon.kernels.clear()
            app.handle_sigint()
    assert capsys.readouterr().err == "kconnd-ctl: there is no kernel lab\n  kconnd-ctl list\n"


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
