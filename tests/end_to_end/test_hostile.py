"""Hostile and clumsy clients: ten thousand inputs on the raw socket, and none does any harm.

Much of what is sent gets as far as a route's own function, and that is counted. No answer is a
500, memory and descriptors stay bounded, and a proper client is served all the while.
"""

import contextlib
import json
import os
import re
import socket
import threading
from collections import Counter
from typing import Any

import psutil
import pytest
from hypothesis import HealthCheck, Phase, Verbosity, given, settings

from tests.bridge import ask_by_document, bridged
from tests.conftest import wait_for
from tests.end_to_end.daemon import SMALL, Daemon
from tests.hostile_inputs import Input, Target, acting_as, inputs, reached, send

INPUTS = int(os.environ.get("KCONND_FUZZ", "10000"))
NOBODY = 65534
PART = settings(
    database=None,
    deadline=None,
    derandomize=True,  # what fails once fails again
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
    verbosity=Verbosity.quiet,  # what is at fault is told by the assertion
)
# 'lab' runs and has to go on as it is; 'idle' never runs, so that nothing can be done to it.
DAEMON = Target(
    changing=(
        ("/v1/kernels/lab/start", ()),
        ("/v1/kernels/lab/start?wait=%ff", ("on_demand",)),
        ("/v1/kernels/lab/signal", ("signal",)),
        ("/v1/kernels/lab/restart", ("new_key",)),
        ("/v1/kernels/idle/interrupt", ()),
        ("/v1/kernels/lab/qtconsole", ("options",)),
        ("/v1/kernels/idle/signal", ()),
        ("/v1/kernels/idle/stop", ()),
        ("/v1/kernels/idle/start", ("on_demand",)),
        ("/v1/kernels/nope/start", ()),
        ("/v1/kernels/..%2f..%2fetc/start", ()),
        ("/v1/kernels/%ff%fe%0a/restart", ()),
        ("/v1/kernels/lab@" + "b" * 50 + "/stop", ()),
    ),
    looking=(
        *("/v1/health", "/v1/kernels", "/v1/kernels/lab", "/v1/kernels/lab/logs", "/v1/events"),
        *("/v1/kernels/lab/wait?for=ready", "/v1/kernels/lab/why", "/v1/kernels/%00", "/", "//"),
        *("/v1/kernels/" + "a" * 3000, "/v1/kernels/\xff/info", "/v1/kernels/lab/logs?lines=-1"),
        *("/v1/kernels/lab/logs?lines=nan", "/v1/kernels/lab/logs?lines=%ff", "/v1/x?a=%ff"),
        *("/v1/kernels/lab/wait?%fe=%ff&for=%00", "/v1/openapi.json", "/v1/profiles"),
        *("/v1/kernels/lab/connection", "/v1/reload", "/v1/events?kernel=%00", "*", "http://x/"),
    ),
    fields=("wait", "on_demand", "signal", "new_key", "options", "environment", "name", ""),
    slow=(b"/v1/kernels/lab/wait?for=stopped", b"/v1/events?follow=1", b"/v1/kernels/lab/start"),
)


@pytest.fixture
def attacked(daemon: Daemon) -> Daemon:
    daemon.profile("lab", SMALL)
    daemon.profile("idle", f"{SMALL}start: manual\n")
    daemon.start()
    daemon.post("lab", "start")
    return daemon


@pytest.mark.timeout(300)
def test_ten_thousand_inputs_do_no_harm(attacked: Daemon) -> None:
    daemon, before = attacked, attacked.info("lab")
    assert daemon.process is not None
    process = psutil.Process(daemon.process.pid)
    ending, served, seen = threading.Event(), [], Counter[str]()

    def be_served() -> None:
        while not ending.wait(0.02):
            served.append(daemon.info("lab")["pid"])

    @settings(PART, max_examples=INPUTS)
    @given(inputs(DAEMON))
    def attack(what: Input) -> None:
        answer = send(daemon.socket, what)
        assert not answer.startswith(b"HTTP/1.1 5"), (what.text[:300], answer[:500])
        assert answer or not what.framed, what.text[:300]
        seen.update(["sent", *(["reached"] if reached(what, answer) else [])])
        if seen["sent"] == INPUTS // 10:
            seen.update(files=process.num_fds(), memory=process.memory_info().rss)

    proper = threading.Thread(target=be_served)
    proper.start()
    try:
        attack()
    finally:
        ending.set()
        proper.join()
    wait_for(daemon.healthy, "it to be as before")
    wait_for(lambda: process.num_fds() <= seen["files"] + 10, "descriptors to be given back")
    assert process.memory_info().rss < seen["memory"] + (16 << 20), "memory is bounded"
    assert seen["sent"] >= INPUTS
    assert seen["reached"] > INPUTS // 2, "a JSON object got to a route's own function"
    assert len(served) > INPUTS // 100
    after = daemon.info("lab")
    assert (after["state"], after["pid"]) == ("running", before["pid"])
    assert daemon.state_of("idle") == "stopped"
    assert "Traceback" not in daemon.said()
    assert json.dumps(before["connection"]) == json.dumps(after["connection"])


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: to be another user")
def test_who_may_nothing_gets_nothing_by_any_input(attacked: Daemon) -> None:
    """Even one who can reach the socket, which the folder's mode prevents by itself."""
    daemon, seen = attacked, Counter[bytes]()
    open_to_all(daemon)

    @settings(PART, max_examples=INPUTS // 10)
    @given(inputs(DAEMON))
    def attack(what: Input) -> None:
        answer = send(daemon.socket, what, uid=NOBODY)
        seen[answer[9:12]] += 1
        assert answer[9:12] in {b"403", b"400", b"", b"100"}, (what.text[:300], answer[:500])

    attack()
    assert seen[b"403"] > INPUTS // 20
    assert "Traceback" not in daemon.said()


@pytest.mark.timeout(300)
def test_requests_made_from_the_openapi_document(daemon: Daemon) -> None:
    """Whatever the document allows, and much that it does not, has an answer that it names."""
    daemon.profile("lab", SMALL)
    daemon.start()
    daemon.post("lab", "start")
    document = daemon.get("/v1/openapi.json")
    with bridged(daemon.socket) as url:
        asked = ask_by_document(url, document, names=["lab", "lab@x", None])
    assert asked > 400
    assert "Traceback" not in daemon.said()
    assert daemon.post("lab", "start")["state"] == "running"


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: to be other users")
def test_many_users_crowds_leave_room_for_the_owner(daemon: Daemon) -> None:
    """Together they have more connections than the daemon may have descriptors."""
    daemon.start(through=("prlimit", "--nofile=300:300"))
    open_to_all(daemon)
    assert daemon.process is not None
    process = psutil.Process(daemon.process.pid)
    spent = sum(process.cpu_times()[:2])
    crowd = [connect_as(daemon, 3000 + number % 8) for number in range(400)]
    try:
        wait_for(lambda: "descriptors are in use" in daemon.said(), "a newcomer to be turned away")
        wait_for(daemon.healthy, "the crowd to be dealt with")
        for _ in range(20):
            assert daemon.get("/v1/health")["pid"] == process.pid
        assert 150 < process.num_fds() < 300 - 90
        assert daemon.said().count("descriptors are in use") == 1, "one line a minute"
        assert "Traceback" not in daemon.said()
        assert sum(process.cpu_times()[:2]) - spent < 2
    finally:
        for raw in crowd:
            raw.close()
    wait_for(lambda: process.num_fds() < 100, "descriptors to be given back")


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: to be another user")
def test_who_may_see_one_kernel_learns_nothing_of_others(daemon: Daemon) -> None:
    """Neither names by a hint, nor how many there are by the daemon's health."""
    daemon.profile("lab", f"{SMALL}access: {{see: [nobody]}}\n")
    daemon.profile("lac", SMALL)
    daemon.profile("secret", "argv: 7\n")
    daemon.start()
    daemon.post("lac", "start")
    open_to_all(daemon)

    def ask(path: str) -> Any:
        text = f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
        _, _, body = send(daemon.socket, Input(text, framed=True), NOBODY).partition(b"\r\n\r\n")
        return json.loads(body)

    found = ask("/v1/health")
    assert (found["kernels"], found["running"], found["faults"]) == (1, 0, 0)
    own = daemon.get("/v1/health")
    assert (own["kernels"], own["running"], own["faults"]) == (2, 1, 1)
    assert [one["name"] for one in ask("/v1/kernels")["kernels"]] == ["lab"]
    for name in ("lab@x", "lac@x", "la", "lad", "secre"):
        said = json.dumps(ask(f"/v1/kernels/{name}")).replace(name, "")
        assert not {"lac", "secret"} & set(re.findall("[a-z]+", said))


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: to be another user")
def test_streams_end_with_the_right_to_them(daemon: Daemon) -> None:
    """Also where nothing more is said on them."""
    profile = SMALL.replace("transport: ipc", "encryption: none")
    daemon.profile("lab", f"{profile}access: {{connect: [nobody]}}\n")
    daemon.start()
    open_to_all(daemon)
    with contextlib.ExitStack() as stack:
        streams = [stack.enter_context(connect_as(daemon, NOBODY)) for _ in range(3)]
        paths = ("/v1/kernels/lab/logs?follow=1", "/v1/events?follow=1", "/v1/health")
        for raw, path in zip(streams, paths, strict=True):
            raw.settimeout(30)
            raw.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            assert b" 200 " in raw.recv(1 << 16)
        daemon.profile("lab", profile)
        daemon.ask("POST", "/v1/reload")
        for raw in streams:
            while raw.recv(1 << 16):
                pass


def open_to_all(daemon: Daemon) -> None:
    """Let every user reach the socket, as they do where there is a front door."""
    for path in (daemon.folder, daemon.runtime):
        path.chmod(0o755)
    daemon.socket.chmod(0o666)


def connect_as(daemon: Daemon, uid: int) -> socket.socket:
    raw = socket.socket(socket.AF_UNIX)
    with acting_as(uid):
        raw.connect(str(daemon.socket))
    return raw
