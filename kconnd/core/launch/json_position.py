"""Finds the line and column of a value in a JSON text, for messages to the author of the text.

The standard library's decoder returns values without positions, but it can decode the value that
begins at a given character, and returns the end of this value. `find_position` walks from the top
of the text to the value and skips the values before it in this way. Only refused files are walked.
"""

from collections.abc import Iterator
from json import JSONDecoder

KeyPath = tuple[str | int, ...]

_SPACE = " \t\n\r"
_decode = JSONDecoder().raw_decode


def find_position(text: str, path: KeyPath) -> tuple[int, int]:
    """Return the line and column, from 1, of a value in a valid JSON text.

    Parameters
    ----------
    text : str
        The text of one JSON value.
    path : tuple
        The keys and indexes that lead to the value. If an object has a key twice, the second value
        counts, as for `json.loads`. If the value is missing, the nearest enclosing value is used.
    """
    at = _skip_space(text, 0)
    for step in path:
        at = dict(_children(text, at)).get(step, at)
    return text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)


def _children(text: str, at: int) -> Iterator[tuple[str | int, int]]:
    """Yield key or index, and position, of each value in the object or list at a position."""
    is_object = text[at] == "{"
    if not is_object and text[at] != "[":
        return
    at = _skip_space(text, at + 1)
    index = 0
    while text[at] not in "]}":
        key: str | int = index
        if is_object:
            key, at = _decode(text, at)
            at = _skip_space(text, _skip_space(text, at) + 1)  # the colon
        yield key, at
        _, at = _decode(text, at)
        at = _skip_space(text, at)
        if text[at] == ",":
            at = _skip_space(text, at + 1)
        index += 1


def _skip_space(text: str, at: int) -> int:
    while text[at : at + 1] and text[at] in _SPACE:
        at += 1
    return at
