"""``kconnd-ctl qtconsole``, with a program in the console's place."""

import sys
from pathlib import Path

import pytest

from kconnd.cli.qtconsole import _run_console
from kconnd.errors import KconndError
from tests.cli.conftest import Ctl
from tests.cli.fake_daemon import FakeDaemon, without_session


def program(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_a_console_that_is_closed_is_a_success() -> None:
    assert _run_console(program("pass"), "lab", "a hint") == 0


def test_a_console_that_fails_says_why_with_its_last_lines() -> None:
    code = "import sys; sys.exit('\\n'.join(map(str, range(9))) + '\\nImportError: no Qt')"
    with pytest.raises(KconndError, match="opening a Qt console on lab: its Qt binding") as caught:
        _run_console(program(code), "lab", "a hint")
    assert caught.value.output.splitlines() == ["5", "6", "7", "8", "ImportError: no Qt"]
    assert caught.value.hint == "a hint"


def test_the_command_has_the_connection_file_and_the_words_that_are_passed_on(
    ctl: Ctl, daemon: FakeDaemon, folder: Path
) -> None:
    file = folder / "kernel-a.json"
    file.touch()
    daemon.add("a", connection_file=str(file))
    command = ctl("qtconsole", "a", "--json", "--", "--style=monokai").json()["argv"]
    assert command[-3:] == ["--existing", str(file), "--style=monokai"]
    assert without_session(daemon.requests[-1].body) == {"on_demand": True}


def test_without_a_display_no_kernel_is_started(
    ctl: Ctl, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"):
        monkeypatch.delenv(name, raising=False)
    outcome = ctl("qtconsole", "a")
    assert (outcome.code, "this session has no display" in outcome.err) == (1, True)
    assert not daemon.requests
