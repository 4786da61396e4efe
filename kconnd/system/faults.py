"""A profile's fault in words: what pydantic found, said to the person who wrote the file."""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from kconnd.core.profile import Profile
from kconnd.system.yaml_places import Document

MOST = 60  # characters of an offending value

_SENTENCES = {
    "string_type": "{value} is not text",
    "int_type": "{value} is not a whole number",
    "int_parsing": "{value} is not a whole number",
    "int_from_float": "{value} is not a whole number",
    "float_type": "{value} is not a number",
    "float_parsing": "{value} is not a number",
    "tuple_type": "{value} is not a list",
    "model_type": "{value} is not a mapping of keys to values",
    "mapping_type": "{value} is not a mapping of names to values",
    "dict_type": "{value} is not a mapping of names to values",
    "greater_than": "{value} is not more than {gt}",
    "greater_than_equal": "{value} is less than {ge}",
    "less_than_equal": "{value} is more than {le}",
    "string_pattern_mismatch": "{value} is not a name",
    "missing": "it is missing",
}
_HINTS = {
    "string_type": "put it in quotes",
    "tuple_type": "write [a, b], or one '- a' a line",
    "string_pattern_mismatch": "use letters, digits, dots, dashes and underscores, at most 40",
}


@dataclass(frozen=True)
class Place:
    """Where something stands; line and column from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with a profile.

    Parameters
    ----------
    place : Place
        Where.
    profile : str
        Which profile, where that is known.
    path : str
        The key, with those above it: ``restart.policy``.
    message : str
        What is wrong with which value.
    hint : str
        A way out, or ``""``.
    """

    place: Place
    profile: str
    path: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        key = f"{self.path}: " if self.path else ""
        return f"{self.place}: {key}{self.message}" + (f"; {self.hint}" if self.hint else "")

    def without_hint(self) -> str:
        """Say where and what, for where the hint is told apart."""
        return str(replace(self, hint=""))

    def to_json(self) -> dict[str, Any]:
        """Give it as a reply has it."""
        return {
            "file": self.place.file,
            "line": self.place.line,
            "column": self.place.column,
            "profile": self.profile,
            "path": self.path,
            "message": self.message,
            "hint": self.hint,
        }


def explain(
    file: str, document: Document, base: tuple[Any, ...], profile: str, detail: ErrorDetails
) -> Fault:
    """Say what pydantic found.

    Parameters
    ----------
    file : str
        The file's name.
    document : Document
        What was read from it.
    base : tuple
        Where in the document the profile stands.
    profile : str
        The profile's name.
    detail : ErrorDetails
        One of a ValidationError's.
    """
    path = _known_part(document, base, detail["loc"])
    unknown = detail["type"] == "extra_forbidden"
    spot = (document.key_places if unknown else document.places).get(path) or document.places[base]
    message, hint = _words(detail)
    dotted = ".".join(map(str, path[len(base) :]))
    return Fault(Place(file, *spot), profile, dotted, message, hint)


def _known_part(
    document: Document, base: tuple[Any, ...], loc: tuple[int | str, ...]
) -> tuple[Any, ...]:
    """Cut off what pydantic adds to a place of its own accord."""
    path = (*base, *loc)
    while path not in document.places and len(path) > len(base):
        path = path[:-1]
    return path


def _words(detail: ErrorDetails) -> tuple[str, str]:
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        return "unknown key", _nearest_key(detail["loc"])
    value = _shown(detail["input"])
    if kind == "literal_error":
        choices = re.findall(r"'([^']*)'", str(context.get("expected", "")))
        near = difflib.get_close_matches(str(detail["input"]), choices, n=1)
        hint = f"did you mean {near[0]!r}?" if near else ""
        return f"{value} is not one of {', '.join(choices)}", hint
    if kind == "value_error":
        return detail["msg"].removeprefix("Value error, "), ""
    if detail["input"] is None:
        return "it is empty (to YAML, ~ and null are nothing)", "give it a value; '~' in quotes"
    sentence = _SENTENCES.get(kind, "{value}: " + detail["msg"].replace("{", "{{"))
    return sentence.format(value=value, **context), _HINTS.get(kind, "")


def _nearest_key(loc: tuple[int | str, ...]) -> str:
    """Suggest a key of the same place, or of anywhere else; or else list those of the place."""
    wrong = str(loc[-1])
    beside = list(_model_at(loc[:-1]).model_fields)
    if near := difflib.get_close_matches(wrong, beside, n=1):
        return f"did you mean {near[0]!r}?"
    elsewhere = {
        key: f"{part}.{key}" for part, model in _PARTS.items() for key in model.model_fields
    }
    if near := difflib.get_close_matches(wrong, elsewhere, n=1):
        return f"did you mean {elsewhere[near[0]]!r}?"
    return f"known are {', '.join(beside)}"


def _model_at(loc: tuple[int | str, ...]) -> type[BaseModel]:
    return _PARTS.get(str(loc[0]), Profile) if loc else Profile


_PARTS: dict[str, type[BaseModel]] = {
    name: field.annotation
    for name, field in Profile.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
}


def _shown(value: object) -> str:
    if isinstance(value, Mapping):
        return "a mapping"
    text = repr(value)
    return text if len(text) <= MOST else f"{text[:MOST]}…"
