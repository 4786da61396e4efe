"""A Qt console: what it needs of a screen, and what its last words mean."""

from collections.abc import Mapping

# What a program needs of its user's session to open a window; nothing else is handed on.
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
    """Tell whether a window could be opened from this environment."""
    return any(env.get(name) for name in _SCREENS)


def explain_exit(output: str, code: int, env: Mapping[str, str]) -> str:
    """Say why a console ended, from its exit code and last output."""
    for sign, sentence in _SIGNS:
        if sign in output:
            return sentence.format(display=env.get("DISPLAY", "") or "of Wayland")
    return f"it ended with code {code}"
