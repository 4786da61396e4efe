"""The socket client's limits: replies that never end, numbers too large, silence, odd names."""

import contextlib
import io
import json
import os
import socket
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kconnd.client import Client, find_socket, kernel_path, parse_json, socket_candidates
from kconnd.errors import KconndError, NoSuchKernelError, UnreachableError
from tests.cli.fake_daemon import FakeDaemon, Raw, Stream, chunk, whole

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


class Pieces(io.RawIOBase):
    """A connection that gives no more at a time than somebody chose."""

    def __init__(self, text: bytes, sizes: list[int]) -> None:
        self._text, self._sizes = text, iter(sizes)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        size = min(next(self._sizes, 1), len(buffer), len(self._text))
        buffer[:size], self._text = self._text[:size], self._text[size:]
        return size


class Replayed(Client):
    """A client whose connection says what a test wants."""

    def __init__(self, text: bytes, sizes: list[int], *, most: int = 64 << 20) -> None:
        super().__init__("/nowhere", most=most)
        self._text, self._sizes = text, sizes

    def _connect(self, _limit: float | None = None) -> Any:
        return ReplayedSocket(self._text, self._sizes)


class ReplayedSocket:
    owner = os.geteuid()

    def __init__(self, text: bytes, sizes: list[int]) -> None:
        self._reader = io.BufferedReader(Pieces(text, sizes))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.close()

    def reader(self) -> Any:
        return self._reader

    def settimeout(self, _limit: float | None) -> None:
        pass

    def sendall(self, _text: bytes) -> None:
        pass


def chunked(text: bytes, sizes: list[int]) -> bytes:
    """Cut a body into chunks of the given sizes, and what is left into a last one."""
    out = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    for size in sizes:
        piece, text = text[:size], text[size:]
        out += chunk(piece) if piece else b""
    return out + (chunk(text) if text else b"") + chunk(b"")


SIZES = st.lists(st.integers(1, 30), max_size=20)


@given(JSON, SIZES, SIZES)
def test_a_chunked_reply_is_the_same_however_it_is_cut(
    content: Any, chunks: list[int], reads: list[int]
) -> None:
    reply = chunked(json.dumps(content).encode(), chunks)
    assert Replayed(reply, reads).get("/x") == content


UNUSUAL = (
    *("", " 1", "1 ", "1 2", "[1", "NaN", "[-Infinity]", "\ufeff1", '"\n"', '{"a":1,"a":2}', "nul"),
    *("1" * 5000, "1e999", "-0", "01", '"\\ud800"', "[" * 100_000),
)


@given(JSON.map(json.dumps) | JSON.map(partial(json.dumps, indent=1)) | st.sampled_from(UNUSUAL))
def test_json_is_read_as_json_reads_it(text: str) -> None:
    for written in (text.encode(), text.encode("utf-16")):
        assert outcome(parse_json, written) == outcome(json.loads, written)


@given(st.binary(max_size=6))
def test_bytes_that_are_no_json_are_none_either(written: bytes) -> None:
    assert outcome(parse_json, written) == outcome(json.loads, written)


def outcome(read: Callable[[bytes], Any], text: bytes) -> str:
    try:
        return repr(read(text))  # NaN is not equal to itself
    except (ValueError, RecursionError) as error:
        return type(error).__name__


@given(st.lists(JSON, max_size=6), SIZES, SIZES, st.sampled_from((b"\n", b"")))
def test_a_stream_gives_each_line_however_it_is_cut(
    lines: list[Any], chunks: list[int], reads: list[int], end: bytes
) -> None:
    text = b"\n".join(json.dumps(one).encode() for one in lines) + (end if lines else b"")
    reply = chunked(text, chunks)
    assert list(Replayed(reply, reads).stream("/x")) == lines


HEAD = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1\r\n\r\n",
        b"HTTP/1.1 " + b"9" * 5000 + b" X\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 abc X\r\n\r\n",
        HEAD,
        HEAD + b"X" * 1_000_000,
        HEAD + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n",
        HEAD + b"Content-Length: -1\r\n\r\n",
        HEAD + b"Content-Length: 99999999999\r\n\r\n",
        HEAD + b"Content-Length: 10\r\n\r\n{}",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n-5\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\n{}",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nffffffffffff\r\n",
        whole(b""),
        whole(b"{"),
        whole(b"\xff\xfe\xfa"),
        whole(b"[" * 100_000),
        whole(b"1" * 10_000),
        whole(b"[]", 500),
        whole(b'{"error": "no"}', 404),
        whole(b"<html>", 502),
    ],
    ids=lambda reply: repr(reply[:60]),
)
def test_garbage_is_told_as_a_daemon_that_does_not_answer(reply: bytes) -> None:
    with pytest.raises(UnreachableError) as failure:
        Replayed(reply, [10_000] * 1000).get("/x")
    assert "/nowhere" in failure.value.message
    assert failure.value.hint


@given(st.binary(max_size=200), SIZES)
def test_no_reply_whatever_ends_in_anything_but_an_error_of_ours(
    reply: bytes, sizes: list[int]
) -> None:
    for prefix in (b"", HEAD, HEAD + b"Transfer-Encoding: chunked\r\n\r\n"):
        with contextlib.suppress(KconndError):
            Replayed(prefix + reply, sizes).get("/x")
        with contextlib.suppress(KconndError):
            list(Replayed(prefix + reply, sizes).stream("/x"))


def test_headers_without_end_are_given_up() -> None:
    with pytest.raises(UnreachableError, match="do not end"):
        Replayed(HEAD + b"X: y\r\n" * 1000, []).get("/x")


def test_a_reply_without_end_is_given_up() -> None:
    reply = chunked(b'"' + b"x" * 5000, [100] * 40)
    with pytest.raises(UnreachableError, match="does not end"):
        Replayed(reply, [], most=1000).get("/x")
    with pytest.raises(UnreachableError, match="does not end"):
        list(Replayed(reply, [], most=1000).stream("/x"))


def test_a_stream_that_is_cut_off_is_an_error_after_its_lines() -> None:
    reply = chunked(b'{"a": 1}\n', []).removesuffix(chunk(b""))
    lines = Replayed(reply, []).stream("/x")
    assert next(lines) == {"a": 1}
    with pytest.raises(UnreachableError, match="hung up"):
        next(lines)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(st.text(st.characters(), min_size=1))
def test_no_name_breaks_out_of_the_request_line(daemon: FakeDaemon, name: str) -> None:
    daemon.requests.clear()
    daemon.replies.clear()
    with pytest.raises(NoSuchKernelError):
        Client(str(daemon.path)).get(f"{kernel_path(name)}?x=1")
    assert len(daemon.requests) == 1
    path = daemon.requests[0].path.removeprefix("/v1/kernels/")
    assert unquote(path, errors="surrogatepass") == name
    assert "/" not in path


def test_a_posts_body_arrives_and_streams_come_line_by_line(daemon: FakeDaemon) -> None:
    daemon.replies["POST", "/v1/reload"] = lambda request: {"got": request.body}
    daemon.replies["GET", "/v1/events"] = Stream(({"at": 1}, {"at": 2}))
    client = Client(str(daemon.path))
    assert client.post("/v1/reload", {"a": [1]}) == {"got": {"a": [1]}}
    assert list(client.stream("/v1/events?follow=0")) == [{"at": 1}, {"at": 2}]
    assert daemon.requests[-1].query == "follow=0"


def test_silence_has_a_limit_where_one_is_asked_for(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "s"))
        listener.listen()
        with pytest.raises(UnreachableError, match="timed out"):
            Client(str(folder / "s")).get("/v1/health", limit=0.05)


@pytest.mark.parametrize("state", ["absent", "dead", "a file"])
def test_where_nobody_listens_the_error_says_where_and_what_to_do(state: str, folder: Path) -> None:
    path = folder / "s"
    if state == "dead":
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
    if state == "a file":
        path.touch()
    with pytest.raises(UnreachableError) as failure:
        Client(str(path)).get("/v1/health")
    assert str(path) in failure.value.message
    assert "kconnd-ctl start" in failure.value.hint


# --- whose the server is


@pytest.fixture(name="foreign")
def _foreign(folder: Path) -> Iterator[tuple[Path, int]]:
    """Have another user listen, as one would who planted a socket; give what it received."""
    if os.getuid() != 0:
        pytest.skip("only root can be two users")
    folder.chmod(0o777)
    ready, received = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        _listen_as(65534, folder / "planted", ready[1], received[1])
    os.close(ready[1])
    os.close(received[1])
    os.read(ready[0], 1)
    yield folder / "planted", received[0]
    os.waitpid(child, 0)
    os.close(ready[0])
    os.close(received[0])


def _listen_as(uid: int, path: Path, ready: int, received: int) -> None:
    try:
        os.setuid(uid)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        path.chmod(0o777)
        listener.listen()
        os.write(ready, b"x")
        connection, _ = listener.accept()
        if text := connection.recv(1000):
            os.write(received, text)
            connection.sendall(whole(b'{"kernels": []}'))
    finally:
        os._exit(0)


@pytest.mark.root
def test_the_owner_that_was_asked_for_is_trusted(foreign: tuple[Path, int]) -> None:
    path, received = foreign
    assert Client(str(path), 65534).get("/v1/kernels") == {"kernels": [], "elsewhere": []}
    assert os.read(received, 1000).startswith(b"GET /v1/kernels HTTP/1.1\r\n")


# --- where the socket is


def test_the_place_where_something_listens_goes_before_the_likelier_one(folder: Path) -> None:
    (folder / "kconnd").mkdir()
    env = {"XDG_RUNTIME_DIR": str(folder)}
    where = str(folder / "kconnd/kconnd.sock")
    with FakeDaemon(Path(where)):
        assert find_socket(env) == where
    assert find_socket(env) != where


def test_without_a_runtime_folder_in_the_environment_systemds_is_looked_at() -> None:
    """Neither cron nor su sets one, and the daemon of a user who lingers listens there."""
    assert "/run/user/1234/kconnd/kconnd.sock" in socket_candidates({}, 1234)
    assert "/tmp/kconnd-1234/kconnd.sock" in socket_candidates({}, 1234)


def test_raw_pieces_are_put_together(daemon: FakeDaemon) -> None:
    daemon.replies["GET", "/v1/health"] = Raw((HEAD, b"Content-Le", b"ngth: 2\r\n\r\n{", b"}"))
    assert Client(str(daemon.path)).get("/v1/health") == {}
