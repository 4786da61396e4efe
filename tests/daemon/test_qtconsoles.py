"""Qt consoles: the environment that a console gets, and what is kept of its end."""

import sys

import pytest

from kconnd.core.launch.plan import User
from kconnd.daemon.qtconsoles import OUTPUT_TAIL_BYTES, QtConsoles, session_environment
from kconnd.errors import UsageError
from tests.conftest import wait_until

SCREEN = {"DISPLAY": ":7"}


async def test_a_console_without_a_display_is_refused() -> None:
    consoles = QtConsoles()
    with pytest.raises(UsageError, match="opening a Qt console on lab: the request names no"):
        consoles.open("lab", ["/bin/true"], {"PATH": "/bin"}, 1000.0)
    assert consoles.of("lab") == []


@pytest.mark.parametrize(
    ("program", "code", "reason"),
    [
        ("", 0, "closed"),
        ("import sys; sys.exit(3)", 3, "it exited with code 3"),
        (
            "import sys; print('qt: could not connect to display'); sys.exit(1)",
            1,
            "the display :7 does not answer",
        ),
    ],
)
async def test_the_end_of_a_console_is_recorded(program: str, code: int, reason: str) -> None:
    consoles = QtConsoles()
    console = consoles.open("lab", [sys.executable, "-S", "-c", program], SCREEN, 1000.0)
    await wait_until(lambda: console.reason, "the end of the console")
    assert (console.code, console.reason) == (code, reason)
    assert [row["pid"] for row in consoles.of("lab")] == [console.pid]
    assert consoles.of("other") == []


async def test_the_last_part_of_the_output_is_kept() -> None:
    program = f"print('first' + 'x' * {OUTPUT_TAIL_BYTES} + 'last', end='')"
    command = [sys.executable, "-S", "-c", program]
    console = QtConsoles().open("lab", command, SCREEN, 1000.0)
    await wait_until(lambda: console.reason, "the end of the console")
    assert len(console.output_tail) == OUTPUT_TAIL_BYTES
    assert console.output_tail.endswith("xlast")


def test_only_the_variables_of_a_window_are_taken_from_the_request() -> None:
    user = User("ada", 4711, "/home/ada", "/bin/sh")
    requested = {"DISPLAY": ":7", "LD_PRELOAD": "/tmp/evil.so", "WAYLAND_DISPLAY": ""}
    env = session_environment(user, {}, requested)
    assert env["DISPLAY"] == ":7"
    assert env["HOME"] == "/home/ada"
    assert not {"LD_PRELOAD", "WAYLAND_DISPLAY"} & set(env)
