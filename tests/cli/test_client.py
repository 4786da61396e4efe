"""The socket client against servers that are slow, broken or hostile."""

import contextlib
import itertools
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kconnd.client import Client, find_socket, socket_candidates
from kconnd.errors import (
    KconndError,
    NoSuchKernelError,
    RefusedError,
    UnreachableError,
    error_class,
)


@contextlib.contextmanager
def serving(pieces: Sequence[bytes]) -> Iterator[Client]:
    """Serve one connection: read the request, send these pieces, hang up."""
    with (
        tempfile.TemporaryDirectory(prefix="kc-") as folder,
        socket.socket(socket.AF_UNIX) as server,
    ):
        path = f"{folder}/s"
        server.bind(path)
        server.listen()

        def serve() -> None:
            connection, _ = server.accept()
            with connection, contextlib.suppress(OSError):
                connection.recv(65536)
                for piece in pieces:
                    connection.sendall(piece)

        thread = threading.Thread(target=serve)
        thread.start()
        yield Client(path)
        thread.join(10)


def reply(content: object, status: int = 200) -> bytes:
    text = json.dumps(content).encode()
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s" % (status, len(text), text)


def cut(text: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({place % (len(text) + 1) for place in places} | {0, len(text)})
    return [text[start:end] for start, end in itertools.pairwise(edges)]


@settings(max_examples=30)
@given(st.dictionaries(st.text(), st.integers()), st.lists(st.integers(0, 500), max_size=5))
def test_a_reply_is_read_however_it_is_cut(content: dict[str, int], places: list[int]) -> None:
    with serving(cut(reply(content), places)) as client:
        assert client.get("/x") == content


@settings(max_examples=30)
@given(
    st.lists(st.dictionaries(st.text(), st.integers(), max_size=3), max_size=5),
    st.lists(st.integers(0, 500), max_size=4),
    st.lists(st.integers(0, 900), max_size=5),
)
def test_a_stream_is_read_however_it_is_cut(
    lines: list[dict[str, int]], chunks: list[int], places: list[int]
) -> None:
    text = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    body = b"".join(b"%x\r\n%s\r\n" % (len(one), one) for one in cut(text, chunks) if one)
    whole = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body + b"0\r\n\r\n"
    with serving(cut(whole, places)) as client:
        assert list(client.stream("/x")) == lines


@pytest.mark.parametrize(
    "pieces",
    [
        [],
        [b"hello"],
        [b"HTTP/1.1 200 OK\r\n"],
        [b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort"],
        [b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"],
        [b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n"],
        [b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{,}"],
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"],
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n"],
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"],
        [b"HTTP/1.1 500 X\r\nContent-Length: 2\r\n\r\n[]"],
        [b"HTTP/1.1 OK\r\n\r\n"],
        [b"X: " + b"y" * 200_000],
        [b"\x00" * 1000],
    ],
)
def test_nonsense_is_told_as_such(pieces: list[bytes]) -> None:
    with serving(pieces) as client, pytest.raises(UnreachableError) as caught:
        client.get("/x")
    assert caught.value.message.startswith("talking to the daemon on ")
    assert caught.value.hint


@pytest.mark.parametrize("kind", [KconndError, *KconndError.__subclasses__()])
def test_an_error_arrives_as_what_it_was(kind: type[KconndError]) -> None:
    told = {"code": kind.code, "message": "m", "hint": "h", "output": "o"}
    with (
        serving([reply({"error": told}, kind.http_status)]) as client,
        pytest.raises(kind) as caught,
    ):
        client.post("/x")
    assert type(caught.value) is kind
    assert (caught.value.message, caught.value.hint, caught.value.output) == ("m", "h", "o")


def test_codes_are_different_and_unknown_ones_are_failures() -> None:
    kinds = KconndError.__subclasses__()
    assert len({kind.code for kind in kinds}) == len(kinds)
    assert error_class("from-the-future") is KconndError
    assert error_class("no-such-kernel") is NoSuchKernelError


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(UnreachableError, match="No such file") as caught:
        Client(str(tmp_path / "none")).get("/v1/health")
    assert "kconnd-ctl start" in caught.value.hint
    assert caught.value.exit_code == 6


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: to listen as another user")
def test_a_socket_that_another_user_planted_is_told_nothing() -> None:
    script = """
import os, socket, sys
server = socket.socket(socket.AF_UNIX); os.setuid(65534)
server.bind(sys.argv[1]); server.listen(); print("listening", flush=True)
connection, _ = server.accept(); print(connection.recv(100))
"""
    with tempfile.TemporaryDirectory(prefix="kc-") as folder:
        Path(folder).chmod(0o777)  # as /tmp is
        process = subprocess.Popen(
            [sys.executable, "-c", script, f"{folder}/s"], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "listening\n"
        with pytest.raises(RefusedError, match="belongs to uid 65534, so nothing was sent"):
            Client(f"{folder}/s").post("/v1/kernels/lab/start")
        assert process.communicate()[0] == "b''\n"


def test_where_the_daemon_is_looked_for(tmp_path: Path) -> None:
    env = {"XDG_RUNTIME_DIR": str(tmp_path)}
    assert list(socket_candidates(env, 7)) == [
        f"{tmp_path}/kconnd/kconnd.sock",
        "/tmp/kconnd-7/kconnd.sock",
    ]
    assert find_socket({**env, "KCONND_SOCKET": "/a"}, "/b") == "/b"
    assert find_socket({**env, "KCONND_SOCKET": "/a"}) == "/a"
    (tmp_path / "kconnd").mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{tmp_path}/kconnd/kconnd.sock")
        server.listen()
        assert find_socket(env) == f"{tmp_path}/kconnd/kconnd.sock"
