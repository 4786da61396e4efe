"""Problems of a profile, described for the person who wrote it.

Rules. A `Problem` has a place, a message and a hint. Every message shows the faulty value. No
message contains pydantic's own wording. The caller passes pydantic's errors as plain mappings, so
this module does not import pydantic.
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
_MAX_LISTED_KEYS = 8  # a longer list is not printed, because nobody would read it


@dataclass(frozen=True)
class Problem:
    """A fault at one place of a profile.

    Parameters
    ----------
    path : tuple of str and int
        The keys and list positions that lead to the place; empty for the profile as a whole.
    message : str
        The fault, with the faulty value.
    hint : str
        The text to write instead; ``""`` without a suggestion.
    on_key : bool
        True if the fault is in the key; False if the fault is in the value.
    """

    path: KeyPath
    message: str
    hint: str = ""
    on_key: bool = False


class InvalidValueError(ValueError):
    """A value is not valid for its key; ``hint`` says what to write instead."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


def format_value(value: object) -> str:
    """Format a value on one short line, in the notation of the profile."""
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
    """Format a path as ``restart.policy`` or ``argv[1]``; unprintable characters are escaped."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + (part if part.isprintable() else ascii(part))
    return text


def closest(word: str, choices: Collection[str]) -> str:
    """Return the choice closest to a misspelt word; ``""`` if no choice is close."""
    return next(iter(difflib.get_close_matches(word.lower(), choices, n=1)), "")


def unknown_key(path: KeyPath, allowed: Collection[str]) -> Problem:
    """Build the problem for an unknown key, which is the last part of ``path``.

    The hint names the closest known key. If no known key is close, the hint lists the known keys,
    or names the command that lists them.
    """
    meant = closest(str(path[-1]), allowed)
    all_keys = f"the keys here are {', '.join(allowed)}"
    listed = all_keys if len(allowed) <= _MAX_LISTED_KEYS else "'kconnd-ctl schema' lists all keys"
    hint = f"did you mean '{meant}'?" if meant else listed
    return Problem(path, UNKNOWN_KEY, hint, on_key=True)


def problem_of(error: Mapping[str, object], path: KeyPath, allowed: Collection[str]) -> Problem:
    """Convert a validation error of pydantic to a problem.

    Parameters
    ----------
    error : mapping
        The error's ``type``, ``input`` and, optionally, ``ctx``.
    path : tuple
        The place of the error.
    allowed : collection of str
        The keys that are known at the place of the error.
    """
    kind, value = str(error["type"]), error["input"]
    context = error.get("ctx")
    context = context if isinstance(context, Mapping) else {}
    # If a key of a mapping is invalid, pydantic appends this marker to the path. A user's key can
    # be spelt like the marker, so the position of the marker counts too.
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
        return Problem(path, "has no value", "give it one; write '' for an empty text", on_key)
    message, hint = _describe_type(kind, value, context)
    if kind == "model_type":
        hint = f"its keys are {', '.join(allowed)}"
    return Problem(path, f"{format_value(value)} {message}", hint, on_key)


def _not_a_choice(path: KeyPath, value: object, choices: list[str]) -> Problem:
    """Build the problem for a value that is none of the choices; the hint is the closest choice."""
    meant = closest(value, choices) if isinstance(value, str) else ""
    message = f"{format_value(value)} is not one of {', '.join(choices)}"
    return Problem(path, message, f"did you mean '{meant}'?" if meant else "")


def _describe_type(kind: str, value: object, context: Mapping[str, object]) -> tuple[str, str]:
    """Choose the message and the hint for a value that one of pydantic's own checks refused."""
    if kind == "string_type" and isinstance(value, Mapping):
        return "is not text", "text with braces needs quotes in YAML: '{...}'"
    message, hint = _WORDS.get(kind, ("is not valid here", ""))
    return message.format_map(context), hint
