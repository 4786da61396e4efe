"""Hostile and clumsy clients: ten thousand inputs on the raw socket, and none does any harm.

What is sent is made from the protocol's own parts, so that much of it gets past the first
line. No answer is a 500, memory and descriptors stay bounded, and a proper client is served
all the while.
"""

import contextlib
import json
import os
import random
import socket
import socketserver
import threading
from pathlib import Path
from typing import Any

import psutil
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import wait_for
from tests.end_to_end.daemon import SMALL, Daemon

INPUTS = int(os.environ.get("KCONND_FUZZ", "10000"))
METHODS = [b"GET", b"POST", b"PUT", b"DELETE", b"HEAD", b"OPTIONS", b"get", b"\x00", b"G" * 5000]
PATHS = [
    *(b"/v1/health", b"/v1/kernels", b"/v1/kernels/lab", b"/v1/kernels/lab/logs", b"/v1/events"),
    *(b"/v1/kernels/lab/wait?for=ready", b"/v1/kernels/lab/signal", b"/v1/kernels/lab/why"),
    *(b"/v1/kernels/%00", b"/v1/kernels/%ff%fe/start", b"/v1/kernels/..%2f..%2fetc/start"),
    *(b"/v1/kernels/" + b"a" * 3000, b"/v1/kernels/lab@" + b"b" * 50, b"/v1/kernels/\xff/info"),
    *(
        b"/v1/kernels/lab/logs?lines=-1",
        b"/v1/kernels/lab/logs?lines=nan",
        b"/",
        b"*",
        b"http://x/",
    ),
    *(b"/v1/kernels/lab/logs?lines=%ff", b"/v1/kernels/lab/wait?%fe=%ff&for=%00", b"/v1/x?a=%ff"),
    *(b"/v1/kernels/lab/connection", b"/v1/openapi.json", b"/v1/profiles", b"/v1/reload", b"//"),
]
HEADERS = [
    b"",
    b"Content-Length: 5\r\n",
    b"Content-Length: -1\r\n",
    b"Content-Length: 99999999999999999999\r\n",
    b"Content-Length: 2\r\nContent-Length: 3\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
    b"Expect: 100-continue\r\nContent-Length: 2\r\n",
    b"Connection: upgrade\r\nUpgrade: websocket\r\n",
    b"X: " + b"y" * 70_000 + b"\r\n",
    b"X" * 300 + b"\r\n",
    b"Host: \xff\xfe\r\n",
    b" folded: yes\r\n",
]
BODIES = [
    b"",
    b"{}",
    b"[]",
    b"null",
    b'{"signal": "KILL',
    b'{"signal": 99999}',
    b'{"wait": "yes"}',
    b'{"wait": false, "new_key": 7}',
    b"\xff\xfe\x00",
    b"[" * 50_000,
    b"5\r\n12345\r\n0\r\n\r\n",
    b"ffffffffffffffff\r\n",
    b"-5\r\nabc",
    b"GET /v1/health HTTP/1.1\r\n\r\n" * 20,
]


def make(chance: random.Random) -> bytes:
    """Make one input: a request, mostly, with something wrong, perhaps cut off or spoiled."""
    version = chance.choice([b"HTTP/1.1", b"HTTP/1.0", b"HTTP/9.9", b"", b"HTTP/1.1 x"])
    text = b"%s %s %s\r\nHost: x\r\n%s%s\r\n%s" % (
        chance.choice(METHODS),
        chance.choice(PATHS),
        version,
        chance.choice(HEADERS),
        chance.choice(HEADERS[:4]),
        chance.choice(BODIES),
    )
    how = chance.random()
    if how < 0.2:
        return text[: chance.randrange(len(text))]
    if how < 0.4:
        spoiled = bytearray(text)
        for _ in range(chance.randrange(1, 20)):
            spoiled[chance.randrange(len(spoiled))] = chance.randrange(256)
        return bytes(spoiled)
    if how < 0.5:
        return chance.randbytes(chance.randrange(1, 3000))
    return text


def send(path: Path, text: bytes, *, patient: bool) -> bytes:
    """Send an input, and give the answer where we wait for one."""
    with socket.socket(socket.AF_UNIX) as raw:
        raw.settimeout(0.05 if patient else 0.0001)
        answer = b""
        try:
            raw.connect(str(path))
            raw.sendall(text)
            raw.shutdown(socket.SHUT_WR)
            while more := raw.recv(1 << 16):
                answer += more
        except OSError:
            pass  # it hung up, or we do
        return answer


@pytest.mark.timeout(300)
def test_ten_thousand_inputs_do_no_harm(daemon: Daemon) -> None:
    daemon.profile("lab", SMALL)
    daemon.start()
    before = daemon.post("lab", "start")
    assert daemon.process is not None
    process = psutil.Process(daemon.process.pid)
    ending, served = threading.Event(), []

    def be_served() -> None:
        while not ending.is_set():
            served.append(daemon.info("lab")["pid"])

    proper = threading.Thread(target=be_served)
    chance = random.Random(7)  # noqa: S311  # no secret
    warm = INPUTS // 10
    files, memory = 0, 0
    proper.start()
    try:
        for number in range(INPUTS):
            text = make(chance)
            answer = send(daemon.socket, text, patient=number % 10 == 0)
            assert not answer.startswith(b"HTTP/1.1 5"), (number, text[:300], answer[:500])
            if number == warm:
                files, memory = process.num_fds(), process.memory_info().rss
    finally:
        ending.set()
        proper.join()
    wait_for(daemon.healthy, "it to be as before")
    wait_for(lambda: process.num_fds() <= files + 10, "descriptors to be given back")
    assert process.memory_info().rss < memory + (16 << 20), "memory is bounded"
    assert len(served) > 100
    after = daemon.info("lab")
    assert after["state"] == "running"
    assert "Traceback" not in daemon.said()
    assert json.dumps(before["connection"]) == json.dumps(after["connection"])


class Bridge(socketserver.ThreadingTCPServer):
    """Lets clients of TCP, on loopback, speak to a Unix socket."""

    daemon_threads = True

    def __init__(self, path: Path) -> None:
        super().__init__(("127.0.0.1", 0), Through)
        self.path = path


class Through(socketserver.BaseRequestHandler):
    """Copies bytes both ways until one side is done."""

    server: Bridge

    def handle(self) -> None:
        with socket.socket(socket.AF_UNIX) as there:
            there.connect(str(self.server.path))
            back = threading.Thread(target=self.copy, args=(there, self.request))
            back.start()
            self.copy(self.request, there)
            back.join()

    @staticmethod
    def copy(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while text := source.recv(1 << 16):
                target.sendall(text)
            target.shutdown(socket.SHUT_WR)


@pytest.mark.timeout(300)
def test_requests_made_from_the_openapi_document(daemon: Daemon) -> None:
    """Whatever the document allows, and much that it does not, has an answer that it names."""
    daemon.profile("lab", SMALL)
    daemon.start()
    daemon.post("lab", "start")
    schema = schemathesis.openapi.from_dict(daemon.get("/v1/openapi.json"))
    asked = 0
    with Bridge(daemon.socket) as bridge:
        threading.Thread(target=bridge.serve_forever).start()
        port = bridge.server_address[1]
        for found in schema.get_all_operations():
            operation = found.ok()  # type: ignore[union-attr]  # our document is sound
            if operation.path.endswith("/wait"):
                continue  # it does as it is told

            @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
            @given(case=operation.as_strategy(), name=st.sampled_from(["lab", "lab@x", None]))
            def check(case: schemathesis.Case[Any], name: str | None) -> None:
                nonlocal asked
                asked += 1
                if name is not None and "name" in case.path_parameters:
                    case.path_parameters["name"] = name
                case.query.pop("follow", None)
                reply = case.call(base_url=f"http://127.0.0.1:{port}", timeout=30)
                assert reply.status_code < 500 or "error" in reply.json()
                assert b"the daemon has a fault" not in reply.content

            check()
        bridge.shutdown()
    assert asked > 400
    assert "Traceback" not in daemon.said()
    assert daemon.post("lab", "start")["state"] == "running"
