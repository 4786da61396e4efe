"""Hypothesis strategies for the replies of a hostile owner: valid replies with some bad fields.

`SOUND` has a valid reply for each route of another owner's daemon. `hostile_replies` replaces
fields of it, at the first or second level, by values of other types, by texts that do harm in a
path, a request line, a terminal or a log, and by too large numbers; and it adds fields that no
client reads. Or it draws an error with such fields, or bytes that are not HTTP.
"""

import copy
import json
from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

from kconnd.core.launch.connection import ConnectionInfo
from tests.cli.fake_daemon import Raw, kernel, whole
from tests.hostile_owner.machine import ADA, NAME

CANARY = "canary"  # is part of each path that nobody may open
KERNEL = kernel(
    NAME,
    last_exit={"code": 1, "signal": None, "reason": "gone", "at": None, "output_tail": "bye"},
    consoles=[],
    warnings=["careful"],
)
CONNECTION = ConnectionInfo("tcp", "127.0.0.1", (5, 6, 7, 8, 9), "key").to_file()
WHY = {"name": NAME, "decisions": [{"at": None, "what": "start", "reason": "asked"}]}
SOUND: dict[str, dict[str, Any]] = {
    "why": WHY,
    "connection": CONNECTION,
    "logs": {"text": "a line\n"},
    **dict.fromkeys(("", "wait", "start", "stop", "restart", "interrupt", "signal"), KERNEL),
}
UNASKED = ("uid", "socket", "resource_dir", "argv", "exec", "error", "kernels", "__class__")
CODES = ("elsewhere", "unreachable", "refused", "usage", "no-such-kernel", "started", "")
PATHS = (
    *("own.json", "fifo", "folder", "link.json", "ipc", "../canary/own.json", "nothing"),
    *(".", "own.json\x00", "own.json\r\nX: y"),
)


def texts(folder: str) -> st.SearchStrategy[str]:
    """Draw texts that do harm in a path, a request, a terminal or a log."""
    known = [
        *(f"{folder}/{CANARY}/{one}" for one in PATHS),
        *(f"~/{CANARY}", f"../../{CANARY}", f"file://{folder}/{CANARY}/own.json", "/etc/passwd"),
        *(
            ADA,
            f"{ADA}/open HTTP/1.1\r\n\r\nPOST /v1/boot",
            "root",
            "self",
            "a b",
            "a\r\nb",
            "\x00",
        ),
        *("\x1b]0;title\x07", "\x1b]52;c;aGk=\x07", "\x1b[2J", "\x9b31m", "\u202eback", "\ud800"),
        *("x" * 100_000, "--existing", "-c", "$(id)", "%s%n", "", "0", "NaN", "tcp", "udp", "ipc"),
        *("10.0.0.1", "localhost", "example.org", "224.0.0.1", "::1", "0.0.0.0"),  # noqa: S104
    ]
    return st.sampled_from(known) | st.text(st.characters(), max_size=30)


def values(folder: str) -> st.SearchStrategy[Any]:
    """Draw values of any type for a field."""
    numbers = st.sampled_from([-1, 0, 1, 22, 65535, 65536, 10**30, 1e308, 0.5, True, None])
    odd = st.floats() | st.integers() | st.booleans() | st.none()
    nested = st.lists(texts(folder), max_size=3) | st.dictionaries(texts(folder), odd, max_size=3)
    return texts(folder) | texts(folder) | numbers | odd | nested


def worst(folder: str) -> tuple[Any, ...]:
    """Return the few most harmful values, for tests that try each field in turn."""
    paths = (f"{folder}/{CANARY}/own.json", f"{folder}/{CANARY}/ipc")
    return (
        *paths,
        f"{ADA}/x HTTP/1.1\r\n\r\nPOST /v1/boot",
        "\x1b]0;t\x07",
        None,
        {},
        [],
        -1,
        10**30,
    )


def fields_of(reply: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """List the fields of a reply, and the fields of its objects."""
    fields: list[tuple[str, ...]] = [(key,) for key in reply]
    for key, value in reply.items():
        if isinstance(value, dict):
            fields += [(key, inner) for inner in value]
    return fields


def spoiled(reply: Mapping[str, Any], field: tuple[str, ...], value: Any) -> dict[str, Any]:
    """Return a copy of a reply with another value in one field."""
    result = copy.deepcopy(dict(reply))
    place = result
    for key in field[:-1]:
        inner = place.get(key)
        place = inner if isinstance(inner, dict) else result
    place[field[-1]] = value
    return result


@st.composite
def hostile_replies(draw: st.DrawFn, verb: str, folder: str) -> Raw:
    """Draw a hostile owner's reply to the request of a verb."""
    kind = draw(st.sampled_from(["fields", "fields", "fields", "fields", "error", "junk", "bytes"]))
    if kind == "bytes":
        return Raw((draw(st.binary(max_size=300)),))
    if kind == "junk":
        return framed(draw(values(folder)), draw(st.sampled_from([200, 201, 301, 500])))
    if kind == "error":
        return framed({"error": draw(errors(folder))}, draw(st.sampled_from([400, 421, 503, 999])))
    reply = SOUND[verb]
    choices = st.sampled_from([*fields_of(reply), *((key,) for key in UNASKED)])
    for field in draw(st.lists(choices, min_size=1, max_size=3)):
        reply = spoiled(reply, field, draw(values(folder)))
    return framed(reply)


def errors(folder: str) -> st.SearchStrategy[dict[str, Any]]:
    text = texts(folder)
    return st.fixed_dictionaries(
        {
            "code": st.sampled_from(CODES) | values(folder),
            "message": text | values(folder),
            "hint": text,
            "output": text,
            "owner": text | values(folder),
        }
    )


def framed(content: object, status: int = 200) -> Raw:
    """Frame a reply as HTTP; Python's JSON may contain NaN and lone surrogates."""
    return Raw((whole(json.dumps(content).encode(), status),))
