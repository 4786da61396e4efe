"""What is wrong with a profile, in words for the person who wrote it.

Rules: a `Problem` says where, what and what to do instead; every message shows the value that
was given; none of the validator's own wording gets out. The validator's errors come in as
plain mappings, so this file does not import it.
"""

import difflib
import re
import reprlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

KeyPath = tuple[str | int, ...]
UNKNOWN_KEY: Final = "unknown key"

_TEXT = ("is not text", "put it in quotes")
_WHOLE = ("is not a whole number", "")
_LIST = ("is not a list", "write [first, second], or one '- item' a line")
_MAPPING = ("is not a mapping", "write one 'key: value' a line, indented")
_WORDS: Final = {
    "string_type": _TEXT,
    "string_unicode": ("holds a character that is not text", ""),
    "int_type": _WHOLE,
    "int_from_float": _WHOLE,
    "int_parsing": _WHOLE,
    "int_parsing_size": _WHOLE,
    "greater_than_equal": ("is too small: at least {ge}", ""),
    "less_than_equal": ("is too large: at most {le}", ""),
    "tuple_type": _LIST,
    "list_type": _LIST,
    "mapping_type": _MAPPING,
    "dict_type": _MAPPING,
    "model_type": _MAPPING,
}
# More keys than this are not read through in an error message.
_FEW = 8


@dataclass(frozen=True)
class Problem:
    """One thing wrong at one place of a profile.

    Parameters
    ----------
    path : tuple of str and int
        Keys and list positions that lead to it; empty for the profile as a whole.
    message : str
        What is wrong, with the value that was given.
    hint : str
        What to write instead, or ``""``.
    on_key : bool
        Whether the key itself is wrong, and not its value.
    """

    path: KeyPath
    message: str
    hint: str = ""
    on_key: bool = False


class InvalidValueError(ValueError):
    """A value that a rule of ours refuses, with a way out."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


def format_value(value: object) -> str:
    """Show a value as its writer would know it again, short and on one line."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "true" if value else "false"
        case Mapping():
            return "a mapping"
        case list() | tuple():
            return "a list"
        case _:
            return reprlib.repr(value)


def format_path(path: KeyPath) -> str:
    """Write a path as ``restart.policy`` or ``argv[1]``; odd characters come out escaped."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + (part if part.isprintable() else ascii(part))
    return text


def closest(word: str, choices: Collection[str]) -> str:
    """Find the choice that was probably meant, or ``""``."""
    return next(iter(difflib.get_close_matches(word.lower(), choices, n=1)), "")


def unknown_key(path: KeyPath, allowed: Collection[str]) -> Problem:
    """Say that the last key of a path is none of ours, and which one was meant."""
    meant = closest(str(path[-1]), allowed)
    known = f"the keys here are {', '.join(allowed)}"
    listed = known if len(allowed) <= _FEW else "'kconnd-ctl schema' tells all keys"
    hint = f"did you mean '{meant}'?" if meant else listed
    return Problem(path, UNKNOWN_KEY, hint, on_key=True)


def problem_of(error: Mapping[str, object], path: KeyPath, allowed: Collection[str]) -> Problem:
    """Turn one validation error into a problem.

    Parameters
    ----------
    error : mapping
        ``type``, ``input`` and ``ctx``, as the validator lists them.
    path : tuple
        Where it is.
    allowed : collection of str
        The keys known at that place: beside an unknown key, inside a mapping.
    """
    kind, value = str(error["type"]), error["input"]
    context = error.get("ctx")
    context = context if isinstance(context, Mapping) else {}
    # How the validator marks the key of a mapping; such a name can also be somebody's own key.
    on_key = path[2:] == ("[key]",)
    path = path[:2] if on_key else path
    if kind == "extra_forbidden":
        return unknown_key(path, allowed)
    if kind == "value_error":
        cause = context["error"]
        return Problem(path, str(cause), getattr(cause, "hint", ""), on_key)
    if kind == "literal_error":
        return _not_a_choice(path, value, re.findall(r"'([^']*)'", str(context["expected"])))
    if value is None:
        return Problem(path, "has no value", "give it one; nothing at all is written ''", on_key)
    message, hint = _words(kind, value, context)
    if kind == "model_type":
        hint = f"its keys are {', '.join(allowed)}"
    return Problem(path, f"{format_value(value)} {message}", hint, on_key)


def _not_a_choice(path: KeyPath, value: object, choices: list[str]) -> Problem:
    """Name all the choices, and the one that was probably meant."""
    meant = closest(value, choices) if isinstance(value, str) else ""
    message = f"{format_value(value)} is not one of {', '.join(choices)}"
    return Problem(path, message, f"did you mean '{meant}'?" if meant else "")


def _words(kind: str, value: object, context: Mapping[str, object]) -> tuple[str, str]:
    """Choose message and hint for an error of the validator's own."""
    if kind == "string_type" and isinstance(value, Mapping):
        return "is not text", "text with braces needs quotes in YAML: '{...}'"
    message, hint = _WORDS.get(kind, ("cannot stand here", ""))
    return message.format_map(context), hint
