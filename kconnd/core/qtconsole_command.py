"""Qt consoles: the environment variables that they need, and an explanation of their exit."""

from collections.abc import Mapping

# The variables of a user's session that a program needs to open a window. A console gets these and
# no other variables of the session.
SESSION_VARIABLES = (
    "DISPLAY",
    "WAYLAND_DISPLAY",
    "XAUTHORITY",
    "XDG_RUNTIME_DIR",
    "QT_QPA_PLATFORM",
)
_SCREENS = ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")
_SIGNS = (
    ("could not connect to display", "the display {display} does not answer"),
    ("no Qt platform plugin could be initialized", "Qt has no plugin that works here"),
    ("Could not load the Qt platform plugin", "Qt cannot load its plugin for this display"),
    ("libEGL.so", "a library that Qt needs is missing (libEGL)"),
    ("ImportError", "its Qt binding cannot be imported"),
)


def has_screen(env: Mapping[str, str]) -> bool:
    """Return whether an environment names a display on which a program can open a window."""
    return any(env.get(name) for name in _SCREENS)


def explain_exit(output: str, code: int, env: Mapping[str, str]) -> str:
    """Describe why a console exited, judging from the console's last output and exit status."""
    for sign, sentence in _SIGNS:
        if sign in output:
            return sentence.format(display=env.get("DISPLAY", "") or "of Wayland")
    return f"it exited with code {code}"
