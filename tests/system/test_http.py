"""HTTP on a Unix socket: what is let in, what is answered, and what is told of it."""

import asyncio
import json
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from kconnd.core.access import Peer, Right
from kconnd.errors import RefusedError
from kconnd.system.http import Reply, Route, Site

DEEP = b"[" * 5000


@dataclass(frozen=True)
class Asked:
    """A request to a server for tests, which refuses whom it is told to."""

    refuses: set[str]
    peer: Peer
    name: str = ""
    query: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] = field(default_factory=dict)

    def authorise(self, right: Right) -> None:
        if right.name in self.refuses:
            raise RefusedError("not you")


async def echo(request: Asked) -> Reply:
    """Give back what was asked."""
    return {"name": request.name, "body": request.body}


ROUTES = [
    Route("GET", "/v1/{name}", Right.SEE, echo),
    Route("POST", "/v1/{name}/change", Right.MANAGE, echo),
    Route("POST", "/v1/units", Right.SEE, echo),
]


class Place:
    """A site that listens, and what to ask it with."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "s"
        self.refuses: set[str] = set()
        self.site = Site(ROUTES, self.make)

    def make(self, **what: Any) -> Asked:
        return Asked(self.refuses, **what)

    async def send(self, text: bytes) -> tuple[int, Any]:
        """Send one request and read its answer."""
        reader, writer = await asyncio.open_unix_connection(str(self.path))
        writer.write(text)
        try:
            return await read_answer(reader)
        finally:
            writer.close()

    async def post(self, path: str, body: bytes) -> tuple[int, Any]:
        return await self.send(post(path, body))


def post(path: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, Any]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    fields = dict(line.lower().split(": ", 1) for line in head[1:] if line)
    body = await reader.readexactly(int(fields["content-length"]))
    return int(head[0].split()[1]), json.loads(body)


@pytest.fixture
def folder() -> Iterator[Path]:
    """Give a folder that every user can look into."""
    path = Path(tempfile.mkdtemp(prefix="kc-", dir="/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
async def place(folder: Path) -> AsyncIterator[Place]:
    found = Place(folder)
    found.site.listen(found.path, mode=0o666)
    yield found
    await found.site.close()


async def test_a_body_that_is_nested_without_end_is_a_usage_error(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    status, said = await place.post("/v1/lab/change", DEEP)
    assert (status, said["error"]["code"]) == (400, "usage")
    assert "nested" in said["error"]["message"]
    assert "Traceback" not in caplog.text


async def test_nobodys_body_is_parsed_before_they_may_ask(place: Place) -> None:
    place.refuses.add("MANAGE")
    for body in (DEEP, b"{", b"7"):
        assert (await place.post("/v1/lab/change", body))[0] == 403
