"""Hostile inputs for the daemon's and the front door's socket, drawn by Hypothesis.

Most are well-formed frames with hostile content: the right Content-Length, a path that is
known, and a JSON object whose fields are not what they should be, so that what is behind the
parser is reached. The others are wrong in their frame: lengths that lie, chunks that do not
fit, requests cut off, spoiled or piled up. What they ask for has to be harmless to kernels,
should it be done.
"""

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

METHODS = [b"GET", b"POST", b"PUT", b"DELETE", b"HEAD", b"OPTIONS", b"get", b"\x00", b"G" * 5000]
VERSIONS = [b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/9.9", b"", b"HTTP/1.1 x"]
HARMLESS = [  # headers that leave a frame what it is
    b"",
    b"Content-Type: application/json\r\n",
    b"Content-Type: application/x-www-form-urlencoded\r\n",
    b"Content-Type: multipart/form-data; boundary=x\r\n",
    b"Accept-Encoding: gzip\r\nCookie: a=\xff; b\r\n",
    b"X: " + b"y" * 30_000 + b"\r\n",
]
HEADERS = [
    *HARMLESS,
    b"Connection: upgrade\r\nUpgrade: websocket\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: -1\r\n",
    b"Content-Length: 99999999999999999999\r\n",
    b"Content-Length: 2\r\nContent-Length: 3\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
    b"Expect: 100-continue\r\nContent-Length: 2\r\n",
    b"Content-Encoding: gzip\r\nContent-Length: 2\r\n",
    b"X: " + b"y" * 70_000 + b"\r\n",
    b"X" * 300 + b"\r\n",
    b"Host: \xff\xfe\r\n",
    b" folded: yes\r\n",
]
BROKEN = [  # bodies that are not a JSON object
    *(b"[]", b"null", b"7", b"NaN", b'"x"', b"{", b'{"wait"', b'{"signal": "KILL'),
    *(b"\xff\xfe\x00", b"[" * 20_000, b'{"a":' * 5_000, b"9" * 10_000, b"{}{}"),
]
PIECES = [
    *BROKEN,
    *(
        b"",
        b"{}",
        b"\xef\xbb\xbf{}",
        b"5\r\n12345\r\n0\r\n\r\n",
        b"ffffffffffffffff\r\n",
        b"-5\r\nabc",
    ),
    b"GET /v1/health HTTP/1.1\r\n\r\n" * 20,
]
LEAVES: list[Any] = [
    *(None, True, False, 0, -1, 99999, 1 << 70, 0.5, 1e308, -0.0, "", "x", "yes", "NaN", "..", "/"),
    *("../../etc", "a\x00b", "\ud800", "\u202e", "%s%n", "lab\nlab", "x" * 5000, "²", "-9"),
    *([], {}, [[]], {"": {}}, ["x", None], {"a": ["b", {"c": 0}]}),
]


@dataclass(frozen=True)
class Target:
    """A server to send inputs to.

    Parameters
    ----------
    changing : tuple of pairs
        Paths to POST to, and the fields of each body that have to have a wrong value, since
        a right one would do something. An empty tuple is for what is harmless anyhow.
    looking : tuple of str
        Paths to GET that are answered at once.
    fields : tuple of str
        Names of fields that some body has.
    slow : tuple of bytes
        Paths that answer late or never; nobody waits for those.
    """

    changing: tuple[tuple[str, tuple[str, ...]], ...]
    looking: tuple[str, ...]
    fields: tuple[str, ...]
    slow: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class Input:
    """What is sent.

    Parameters
    ----------
    text : bytes
        All of it.
    framed : bool
        Whether it is a well-formed request, so that there has to be an answer.
    speaks : bool
        Whether its body is a JSON object, too.
    """

    text: bytes = field(repr=False)
    framed: bool = False
    speaks: bool = False


WRONG = [*(0, 777, -1, 1e300, "", "yes", "\ud800", "²", "SIGNOTHING"), [], [7], ["x", None]]
# Each strategy is built once: building one is what takes the time.
VALUE = st.one_of(st.sampled_from(LEAVES), st.integers(), st.text(max_size=9), st.floats())
DIGIT = st.integers(0, 9)
METHOD = st.sampled_from(["GET", "GET", "GET", "HEAD", "PUT", "POST"])


def _changing(target: Target) -> st.SearchStrategy[Input]:
    """Draw requests that would change something, with a body that says it wrongly."""

    def make(where: tuple[str, tuple[str, ...]], given: dict[str, Any], wrong: Any) -> Input:
        path, careful = where
        body = json.dumps(given | dict.fromkeys(careful, wrong)).encode()
        return _frame("POST", path, body, speaks=True)

    fields = st.dictionaries(st.sampled_from(target.fields), VALUE, max_size=3)
    return st.builds(make, st.sampled_from(target.changing), fields, st.sampled_from(WRONG))


def _broken(target: Target) -> st.SearchStrategy[Input]:
    """Draw requests whose frame is sound and whose body is no JSON object."""
    paths = [path for path, _ in target.changing]
    return st.builds(
        lambda path, header, body: _frame("POST", path, body, header),
        st.sampled_from(paths),
        st.sampled_from(HARMLESS),
        st.sampled_from(BROKEN),
    )


def _looking(target: Target) -> st.SearchStrategy[Input]:
    paths, headers = st.sampled_from(target.looking), st.sampled_from(HARMLESS)
    return st.builds(lambda m, path, header: _frame(m, path, b"", header), METHOD, paths, headers)


def _frame(
    method: str, path: str, body: bytes, header: bytes = b"", *, speaks: bool = False
) -> Input:
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n".encode("latin1")
    return Input(
        b"%s%sContent-Length: %d\r\n\r\n%s" % (head, header, len(body), body),
        framed=True,
        speaks=speaks,
    )


def _unframed(target: Target) -> st.SearchStrategy[Input]:
    """Draw what is not a request, or is one and more, or less."""
    paths = [*(path.encode("latin1") for path in target.looking), *target.slow]
    pieces = (METHODS, paths, VERSIONS, HEADERS, HEADERS, PIECES)
    whole = st.tuples(*map(st.sampled_from, pieces)).map(
        lambda drawn: b"%s %s %s\r\nHost: x\r\n%s%s\r\n%s" % drawn
    )
    places = st.lists(st.integers(0, 1 << 24), min_size=1, max_size=9)
    cut = st.builds(lambda text, place: text[: place % len(text)], whole, st.integers(0, 1 << 24))
    noise = st.binary(min_size=1, max_size=300)
    text = st.one_of(whole, whole.filter(bool), cut, st.builds(_spoiled, whole, places), noise)
    return text.map(Input)


def _spoiled(text: bytes, where: list[int]) -> bytes:
    spoiled = bytearray(text)
    for number in where:
        spoiled[(number >> 8) % len(spoiled)] = number & 0xFF
    return bytes(spoiled)


def inputs(target: Target) -> st.SearchStrategy[Input]:
    """Draw inputs for a server: most in a well-formed frame, most of those with an object."""
    changing, looking = _changing(target), _looking(target)
    broken, unframed = _broken(target), _unframed(target)
    rows = [*[changing] * 6, looking, broken, unframed, unframed]
    return DIGIT.flatmap(rows.__getitem__)


@contextlib.contextmanager
def acting_as(uid: int) -> Iterator[None]:
    """Be another user for a moment, as root can; a socket's peer is who connects."""
    own = os.geteuid()
    if uid == own:
        yield
        return
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(own)


def send(path: Path, what: Input, uid: int | None = None) -> bytes:
    """Send an input; wait for the answer where there has to be one."""
    with socket.socket(socket.AF_UNIX) as raw:
        raw.settimeout(10 if what.framed else 0.0005)
        with acting_as(os.geteuid() if uid is None else uid):
            raw.connect(str(path))
        answer = b""
        with contextlib.suppress(OSError):  # it hung up, or we do
            raw.sendall(what.text)
            if not what.framed:
                raw.shutdown(socket.SHUT_WR)
            while more := raw.recv(1 << 16):
                answer += more
        return answer


BEFORE = ("the request's body", "uid ")  # what is said before a route's own function runs


def reached(what: Input, answer: bytes) -> bool:
    """Tell whether a JSON object got to a route's own function."""
    head, _, body = answer.partition(b"\r\n\r\n")
    if not what.speaks:
        return False
    if head.startswith(b"HTTP/1.1 200"):
        return True
    error = json.loads(body)["error"]
    return not error["message"].startswith(BEFORE) and "is not a request of" not in str(error)
