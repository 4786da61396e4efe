"""The screen that a Qt console needs, and the reason of its exit."""

import pytest

from kconnd.core.qtconsole_command import explain_exit, has_screen


def test_a_screen_is_a_display_or_a_platform() -> None:
    assert not has_screen({})
    assert not has_screen({"DISPLAY": "", "XDG_RUNTIME_DIR": "/run/user/7"})
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"):
        assert has_screen({name: "x"})


@pytest.mark.parametrize(
    ("output", "env", "reason"),
    [
        (
            "qt: could not connect to display :7",
            {"DISPLAY": ":7"},
            "the display :7 does not answer",
        ),
        ("could not connect to display ", {}, "the display of Wayland does not answer"),
        ("no Qt platform plugin could be initialized", {}, "Qt has no plugin that works here"),
        ("ImportError: PyQt6", {}, "its Qt binding cannot be imported"),
        ("", {}, "it exited with code 3"),
    ],
)
def test_the_last_output_explains_an_exit(output: str, env: dict[str, str], reason: str) -> None:
    assert explain_exit(output, 3, env) == reason
