"""Daemons that lie, dawdle or never end are asked at no cost to others."""

import asyncio
import tempfile
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from kconnd.errors import KconndError
from kconnd.front.owner_client import MAX_REPLY_BYTES, get_json

OK = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s"
Talk = Callable[[asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture
def path() -> Iterator[str]:
    """Give a path that is short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="kc") as folder:
        yield str(Path(folder, "s"))


async def answer_of(path: str, talk: Talk, limit: float = 5.0) -> object:
    """Ask a daemon that talks in some way once it has been asked."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            await talk(writer)
        except OSError:
            pass  # whoever asked has gone
        finally:
            writer.transport.abort()

    async with await asyncio.start_unix_server(serve, path):
        return await get_json(path, "/v1/kernels", limit)


def saying(text: bytes) -> Talk:
    async def talk(writer: asyncio.StreamWriter) -> None:
        writer.write(text)
        await writer.drain()
        await asyncio.sleep(0)
        while writer.transport.get_write_buffer_size():  # noqa: ASYNC110  # drained below a limit
            await asyncio.sleep(0)

    return talk


async def test_a_daemon_that_answers(path: str) -> None:
    assert await answer_of(path, saying(OK % (13, b'{"kernels":1}'))) == {"kernels": 1}


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n{}",
        OK % (5, b"{}"),
        OK % (MAX_REPLY_BYTES + 1, b"{}"),
        OK % (MAX_REPLY_BYTES, b"[" * MAX_REPLY_BYTES),
        OK % (MAX_REPLY_BYTES + 1, b'"%s"' % (b"x" * (MAX_REPLY_BYTES - 1))),
        OK % (3, b"NaN"),
        OK % (2, b"\xff\xff"),
        b"x" * (1 << 20),
    ],
)
async def test_a_daemon_that_makes_no_sense(path: str, text: bytes) -> None:
    with pytest.raises(KconndError, match="gave no valid reply"):
        await answer_of(path, saying(text))


async def test_where_nobody_listens(path: str) -> None:
    with pytest.raises(KconndError, match="gave no valid reply"):
        await get_json(path, "/v1/kernels")


async def test_a_daemon_that_trickles_has_a_limit_for_all_of_it(path: str) -> None:
    async def trickle(writer: asyncio.StreamWriter) -> None:
        writer.write(OK % (10**6, b""))
        while not writer.is_closing():
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.01)

    threads = threading.active_count()
    loop = asyncio.get_running_loop()
    before = loop.time()
    with pytest.raises(KconndError, match="did not reply within"):
        await answer_of(path, trickle, limit=0.2)
    assert loop.time() - before < 2
    assert threading.active_count() == threads, "and it holds none"
