"""HTTP on a Unix socket: what is let in, what is answered, and what is told of it."""

import asyncio
import contextlib
import http.client
import json
import logging
import os
import resource
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Self

import pytest

from kconnd.core.access import Peer, Right
from kconnd.errors import RefusedError, UsageError
from kconnd.system.http.audit import MAX_LINES, Audit
from kconnd.system.http.body_limits import DRAIN_LIMIT_S, MAX_BODY_BYTES, MAX_DRAINED_BYTES
from kconnd.system.http.connections import highest_descriptor
from kconnd.system.http.http_server import Site
from kconnd.system.http.peer import UserDirectory
from kconnd.system.http.route_table import Reply, Route
from tests.conftest import LIMIT, wait_until
from tests.hostile_inputs import acting_as

DEEP = b"[" * 60_000  # deeper than any Python reads, and no longer than a body may be

LIMIT_OF_LINGER = DRAIN_LIMIT_S / 2  # an answer is there before the rest of a body is waited for


@dataclass(frozen=True)
class Asked:
    """A request to a server for tests, which refuses whom it is told to."""

    place: "Place"
    peer: Peer
    name: str = ""
    query: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] = field(default_factory=dict)

    def authorise(self, right: Right) -> None:
        lacks = self.place.needs and self.place.needs not in self.peer.groups
        if right.name in self.place.refuses or lacks:
            raise RefusedError("not you")


async def echo(request: Asked) -> Reply:
    """Give back what was asked."""
    request.place.echoed += 1
    return {"name": request.name, "body": request.body}


async def hang(request: Asked) -> Reply:
    """Do something until it is told to go on."""
    request.place.hanging.set()
    await request.place.go_on.wait()
    return {}


async def follow(_request: Asked) -> Reply:
    """Stream nothing, for ever."""

    async def stream() -> AsyncIterator[Mapping[str, Any]]:
        await asyncio.Event().wait()
        yield {}

    return stream()


ROUTES = [
    Route("GET", "/v1/{name}", Right.SEE, echo),
    Route("GET", "/v1/{name}/follow", Right.SEE, follow, streams=True),
    Route("GET", "/v1/{name}/seen", Right.SEE, echo),
    Route("POST", "/v1/{name}/hang", Right.SEE, hang),
    Route("POST", "/v1/{name}/change", Right.MANAGE, echo),
    Route("POST", "/v1/units", Right.SEE, echo),
    Route("POST", "/v1/own", Right.SEE, echo, daemons_only=True),
]


class Place:
    """A site that listens, and what to ask it with."""

    def __init__(
        self, folder: Path, directory: UserDirectory | None = None, max_connections: int = 128
    ) -> None:
        self.path = folder / "s"
        self.refuses: set[str] = set()
        self.needs = ""  # a group
        self.hanging, self.go_on = asyncio.Event(), asyncio.Event()
        self.clients: list[socket.socket] = []
        self.echoed = 0  # requests that were carried out
        self.site = Site(ROUTES, partial(Asked, self), max_connections, directory)

    def connect(self, uid: int | None = None) -> socket.socket:
        """Connect as a user."""
        raw = socket.socket(socket.AF_UNIX)
        self.clients.append(raw)
        with acting_as(os.geteuid() if uid is None else uid):
            raw.connect(str(self.path))
        raw.settimeout(0)
        return raw

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[Self]:
        self.site.listen(self.path, mode=0o666)
        try:
            yield self
        finally:
            for raw in self.clients:
                raw.close()
            await self.site.close()

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


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


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
    async with Place(folder).listening() as found:
        yield found


async def test_a_body_that_is_nested_without_end_is_a_usage_error(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    status, said = await place.post("/v1/lab/change", DEEP)
    assert (status, said["error"]["code"]) == (400, "usage")
    assert "nested" in said["error"]["message"]
    assert "Traceback" not in caplog.text


async def test_a_connection_that_ends_before_its_client_is_identified_is_no_fault(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    ended = asyncio.Event()

    async def await_ready(route: Route, peer: Peer, name: str) -> str:  # noqa: ARG001  # a Protocol
        for stream in list(place.site.server.callers):
            stream.close()
        ended.set()
        return name

    place.site.await_ready = await_ready
    place.connect().sendall(post("/v1/own", b"{}"))
    async with asyncio.timeout(LIMIT):
        await ended.wait()
    place.site.await_ready = None
    assert (await place.send(get("/v1/lab")))[0] == 200
    assert "Traceback" not in caplog.text


async def test_nobodys_body_is_parsed_before_they_may_ask(place: Place) -> None:
    place.refuses.add("MANAGE")
    for body in (DEEP, b"{", b"7"):
        assert (await place.post("/v1/lab/change", body))[0] == 403


async def ask(raw: socket.socket, path: str = "/v1/lab") -> tuple[int, Any]:
    """Ask over a connection that is kept."""
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(raw, get(path))
    reader = asyncio.StreamReader()
    while True:
        reader.feed_data(await loop.sock_recv(raw, 1 << 16) or b"HTTP/1.1 0 closed\r\n\r\n")
        with contextlib.suppress(TimeoutError):
            return await asyncio.wait_for(read_answer(reader), 5)


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: to be other users")


def test_strangers_leave_descriptors_to_the_owner_and_all_leave_some_to_the_server() -> None:
    for limit in (64, 256, 1024, 1 << 20):
        strangers = highest_descriptor(limit, stranger=True)
        owner = highest_descriptor(limit, stranger=False)
        assert 0 < strangers < owner < limit - 1
    assert highest_descriptor(1024, stranger=True) == 1024 - 256 - 1


async def test_accepting_rests_while_no_descriptor_is_left(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    """Tornado's own way is to fail, and log it, as fast as it can for as long as it lasts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(os.listdir("/proc/self/fd"))  # noqa: PTH208  # a count
    before, waiting, taken = time.process_time(), socket.socket(socket.AF_UNIX), []
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 20, hard))
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.dup(0))
        waiting.connect(str(place.path))
        await wait_until(lambda: "accepting connections failed" in caplog.text, "the log")
        until = time.monotonic() + 0.5
        await wait_until(lambda: time.monotonic() > until, "a loop that fails to show")
        assert time.process_time() - before < 0.08
        assert len(caplog.records) == 1
    finally:
        for number in taken:
            os.close(number)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    waiting.settimeout(0)
    assert (await ask(waiting))[0] == 200
    waiting.close()


@pytest.mark.root
@needs_root
async def test_a_hanging_database_of_users_keeps_nobody_else_waiting(folder: Path) -> None:
    """Nor does it hang the loop, or take a thread for each who asks."""
    hanging, seen = threading.Event(), list[int]()

    def look_up(uid: int) -> tuple[str, frozenset[str]]:
        seen.append(uid)
        if uid != 3000:
            hanging.wait(LIMIT)
        return "x", frozenset()

    place = Place(folder, UserDirectory(look_up, limit_s=0.2))
    async with place.listening():
        began = time.monotonic()
        asking = [place.connect(uid) for uid in (2000, 2000, 2001)]
        answers = asyncio.gather(*map(ask, asking))
        assert (await ask(place.connect(0)))[0] == 200
        assert (await ask(place.connect(3000)))[0] == 200
        assert [status for status, _ in await answers] == [403] * 3
        assert seen.count(2000) == 1
        assert time.monotonic() - began < LIMIT / 2
        hanging.set()
        await place.site.close()


@pytest.mark.root
@needs_root
@pytest.mark.parametrize("uid", [65535, 1 << 31, 3_000_000_000, 4_294_967_294])
async def test_every_uid_there_is_is_known_as_it_is(folder: Path, uid: int) -> None:
    seen = list[int]()

    def look_up(asked: int) -> tuple[str, frozenset[str]]:
        seen.append(asked)
        return "x", frozenset()

    place = Place(folder, UserDirectory(look_up))
    async with place.listening():
        assert (await ask(place.connect(uid)))[0] == 200
        assert seen == [uid]


@pytest.mark.root
@needs_root
async def test_a_crowd_is_turned_away_before_anybody_is_looked_up(folder: Path) -> None:
    seen = list[int]()

    def look_up(uid: int) -> tuple[str, frozenset[str]]:
        seen.append(uid)
        return "x", frozenset()

    place = Place(folder, UserDirectory(look_up), max_connections=4)
    async with place.listening():
        for _ in range(20):
            place.connect(2000)
        await wait_until(lambda: place.site.connections == 4, "those who may")
        assert (await ask(place.connect(2001)))[0] == 200
        assert seen == [2001]


@pytest.mark.root
@needs_root
@pytest.mark.parametrize("path", ["/v1/lab", "/v1/lab/seen"])
async def test_who_leaves_a_group_loses_what_it_gave_on_a_kept_connection(
    folder: Path, path: str
) -> None:
    groups = {"lab"}
    place = Place(folder, UserDirectory(lambda _: ("ada", frozenset(groups)), expiry_s=0.05))
    place.needs = "lab"
    async with place.listening():
        raw = place.connect(2000)
        assert (await ask(raw, path))[0] == 200
        following = place.connect(2000)
        following.sendall(b"GET /v1/lab/follow HTTP/1.1\r\nHost: x\r\n\r\n")
        reader, writer = await asyncio.open_unix_connection(sock=following)
        assert b"200" in await reader.readline()
        groups.clear()
        async with asyncio.timeout(5):
            await reader.readuntil(b"0\r\n\r\n")  # the stream's end
        assert (await ask(raw, path))[0] == 403
        writer.close()


@pytest.mark.parametrize("text", ["plain", "ü \U0001f40d", "no text: \udc80", '"\\\n\x00'])
async def test_any_text_comes_back_as_it_was(place: Place, text: str) -> None:
    """Also what Python makes of a path whose bytes are no text (os.fsdecode)."""
    body = {"text": text, "deep": [{"number": 1.5, "none": None, "many": float("inf")}]}
    status, told = await place.post("/v1/units", json.dumps(body).encode())
    assert (status, told["body"]) == (200, body)


async def test_a_body_that_is_not_json_is_refused_also_where_none_is_needed(place: Place) -> None:
    broken = get("/v1/lab/seen").replace(b"\r\n\r\n", b"\r\nContent-Length: 1\r\n\r\n{")
    assert (await place.send(broken))[0] == 400


PIPELINED = "this connection received a second request"


async def read_all(raw: socket.socket) -> bytes:
    """Read what comes until the other side hangs up."""
    text = b""
    with contextlib.suppress(ConnectionResetError):
        while more := await asyncio.get_running_loop().sock_recv(raw, 1 << 16):
            text += more
    return text


@pytest.mark.parametrize("second", [get("/v1/lab/seen"), post("/v1/units", b"{}"), b"X"])
@pytest.mark.parametrize("first", [get("/v1/lab/seen"), post("/v1/lab/change", b'{"a": 1}')])
async def test_requests_in_one_breath_are_all_refused(
    place: Place, caplog: pytest.LogCaptureFixture, first: bytes, second: bytes
) -> None:
    """A hostile text in a request's head could have made two of it, so none of them is done."""
    caplog.set_level(logging.INFO)
    raw = place.connect()
    raw.sendall(first + second)
    async with asyncio.timeout(LIMIT):
        answer = await read_all(raw)
    assert answer.count(b"HTTP/1.1 ") == 1
    assert answer.startswith(b"HTTP/1.1 400")
    assert PIPELINED.encode() in answer
    assert b"Connection: close" in answer
    assert place.echoed == 0
    assert ": done" not in caplog.text


async def test_what_comes_while_a_request_is_being_done_is_refused_after_its_answer(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    raw = place.connect()
    raw.sendall(post("/v1/lab/hang", b"{}"))
    await place.hanging.wait()
    raw.sendall(post("/v1/lab/change", b"{}"))
    place.go_on.set()
    async with asyncio.timeout(LIMIT):
        answer = await read_all(raw)
    assert [int(one.split()[0]) for one in answer.split(b"HTTP/1.1 ")[1:]] == [200, 400]
    assert PIPELINED.encode() in answer
    assert "requested hang lab: done" in caplog.text
    assert "requested change" not in caplog.text


async def test_a_client_that_has_said_all_it_has_to_say_is_answered(place: Place) -> None:
    """The end of what it sends is no second request."""
    raw = place.connect()
    raw.sendall(get("/v1/lab"))
    raw.shutdown(socket.SHUT_WR)
    async with asyncio.timeout(LIMIT):
        assert (await read_all(raw)).startswith(b"HTTP/1.1 200")


def head(length: int, more: str = "") -> bytes:
    text = f"POST /v1/lab/change HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n{more}\r\n"
    return text.encode()


@pytest.mark.parametrize("length", [2, MAX_BODY_BYTES, 10**9, 10**30])
async def test_who_may_not_ask_is_told_before_the_body_is_sent(place: Place, length: int) -> None:
    place.refuses.add("MANAGE")
    async with asyncio.timeout(LIMIT_OF_LINGER):
        status, said = await place.send(head(length))
    assert (status, said["error"]["message"]) == (403, "not you")


@pytest.mark.parametrize(
    ("start", "why"),
    [
        (head(MAX_BODY_BYTES + 1), f"the limit is {MAX_BODY_BYTES} bytes"),
        (head(10**30), "the limit is"),
        (head(10**9, "Expect: 100-continue\r\n"), "the limit is"),
        (
            b"POST /v1/units HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}",
            "has no Content-Length",
        ),
    ],
)
async def test_too_large_a_body_is_refused_in_plain_words_before_it_is_sent(
    place: Place, start: bytes, why: str
) -> None:
    status, said = await place.send(start)
    assert (status, said["error"]["code"]) == (400, "usage")
    assert why in said["error"]["message"]


async def test_who_sends_all_of_too_large_a_body_first_still_reads_why(place: Place) -> None:
    """As http.client and curl do: a broken pipe would be all that they see."""
    body = b"x" * (MAX_DRAINED_BYTES - (64 << 10))
    async with asyncio.timeout(LIMIT):
        status, said = await asyncio.to_thread(_ask_by_http_client, place.path, body)
    assert status == 400
    assert "the limit is" in said["error"]["message"]


def _ask_by_http_client(path: Path, body: bytes) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("x", timeout=LIMIT)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(path))
    connection.request("POST", "/v1/lab/change", body)
    answer = connection.getresponse()
    found = answer.status, json.loads(answer.read())
    connection.close()
    return found


async def test_who_never_ends_a_body_that_nobody_wants_is_cut_off(place: Place) -> None:
    place.refuses.add("MANAGE")
    raw = place.connect()
    raw.sendall(head(10**9))
    sent = 0
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        while sent < 4 * MAX_DRAINED_BYTES:
            await asyncio.get_running_loop().sock_sendall(raw, b"x" * 65536)
            sent += 65536
    assert sent < 4 * MAX_DRAINED_BYTES


async def test_a_refused_body_that_has_come_whole_is_not_waited_for(place: Place) -> None:
    place.refuses.add("MANAGE")
    raw = place.connect()
    raw.sendall(post("/v1/lab/change", b"x" * 9000))
    async with asyncio.timeout(LIMIT_OF_LINGER):
        assert (await read_all(raw)).startswith(b"HTTP/1.1 403")


async def test_what_is_for_daemons_alone_is_refused_to_other_processes(place: Place) -> None:
    status, said = await place.post("/v1/own", b"{}")
    assert (status, said["error"]["code"]) == (403, "refused")
    assert f"process {os.getpid()} does not belong to the daemon of" in said["error"]["message"]


async def test_a_body_as_large_as_one_may_be_is_taken(place: Place) -> None:
    text = "x" * (MAX_BODY_BYTES - len('{"a": ""}'))
    status, told = await place.post("/v1/units", json.dumps({"a": text}).encode())
    assert (status, told["body"]) == (200, {"a": text})


async def test_a_client_that_is_gone_before_its_answer_is_no_fault(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(20):
        raw = place.connect()
        raw.sendall(get("/v1/lab/seen"))
        raw.close()
    await wait_until(lambda: place.site.connections == 0, "them to be let go")
    assert caplog.text == ""


async def test_a_client_that_hangs_up_is_told_of_as_such(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    raw = place.connect()
    raw.sendall(post("/v1/lab/hang", b"{}"))
    await place.hanging.wait()
    raw.close()
    await wait_until(lambda: "requested hang lab: hung up" in caplog.text, "the line")


async def test_the_line_names_the_kernel_of_a_body_and_is_printable(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    await place.post("/v1/units", b'{"name": "lab@one"}')
    assert "requested units lab@one: done" in caplog.text
    await place.post("/v1/units", b'{"name": "lab: done\\nuid 0"}')
    await place.post("/v1/lab:%20done%0auid%200%e2%80%ae/change", b"{}")
    names = [vars(one)["KCONND_KERNEL"] for one in caplog.records if "KCONND_KERNEL" in vars(one)]
    assert names == ["lab@one", "", r"'lab: done\nuid 0\u202e'"]
    assert "\n" not in caplog.messages[-1]


async def test_refusals_are_summed_up_and_changes_are_not(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    place.site.audit = Audit(interval_s=0.5)
    place.refuses.add("MANAGE")
    for _ in range(30):
        assert (await place.post("/v1/lab/change", b"{}"))[0] == 403
    assert caplog.text.count("requested change lab: refused") == MAX_LINES
    for _ in range(30):
        assert (await place.post("/v1/units", b"{}"))[0] == 200
    assert caplog.text.count("requested units : done") == 30
    await wait_until(lambda: f"{30 - MAX_LINES} more requests" in caplog.text, "the sum")


async def test_a_path_too_long_for_a_socket_is_named_with_the_way_out(folder: Path) -> None:
    place = Place(folder)
    place.path = folder / ("x" * 100)
    with pytest.raises(UsageError, match=r"/x+ is too long a path .* of at most 107") as caught:
        async with place.listening():
            pass
    assert "shorter --socket or --runtime-dir" in caught.value.hint
