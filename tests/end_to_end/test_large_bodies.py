"""Strangers who send large bodies to a daemon: refused by the head, while look-ups are answered."""

import json
import os
import subprocess
import sys
import time

import pytest

from tests.conftest import wait_for
from tests.end_to_end.daemon import SMALL, Daemon
from tests.end_to_end.slow_turns import (
    Lookups,
    assert_answers_in_time,
    assert_no_slow_turn,
    measured,
)
from tests.end_to_end.test_hostile import NOBODY, open_to_all

ATTACK_S = 3.0
CONNECTIONS = 32
# As the user of its second argument, sends as fast as it can what is no small body, and prints how
# many answers were of each status.
ATTACK = """
import json, os, select, socket, sys, time
from collections import Counter
path, uid, seconds, connections = sys.argv[1], *map(float, sys.argv[2:])
os.setuid(int(uid))
body = b"[" + b"[]," * 340_000 + b"0]"
head = b"POST /v1/kernels/lab/stop HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: %d\\r\\n\\r\\n"
requests = [head % size + body[:size] for size in (60_000, len(body))]
seen = Counter()
until = time.monotonic() + seconds
while time.monotonic() < until:
    crowd = []
    for number in range(int(connections)):
        one = socket.socket(socket.AF_UNIX)
        one.settimeout(5)
        one.connect(path)
        crowd.append(one)
    for number, one in enumerate(crowd):
        try:
            one.sendall(requests[number % 2])
        except OSError:
            pass
    for one in crowd:
        try:
            seen[one.recv(1 << 16)[9:12].decode()] += 1
        except OSError as error:
            seen[type(error).__name__] += 1
        one.close()
print(json.dumps(seen))
"""


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: to be another user")
def test_strangers_large_bodies_keep_nobody_waiting(daemon: Daemon) -> None:
    daemon.profile("lab", SMALL)
    measured(daemon).start()
    daemon.post("lab", "start")
    open_to_all(daemon)
    words = [sys.executable, "-c", ATTACK, daemon.socket, NOBODY, ATTACK_S, CONNECTIONS]

    def measure() -> Lookups:
        with Lookups(daemon, "lab") as lookups:
            began = time.monotonic()
            done = subprocess.run([*map(str, words)], capture_output=True, text=True, check=True)
        assert time.monotonic() - began >= ATTACK_S
        seen = json.loads(done.stdout)
        assert set(seen) == {"403"}, "each is told that it may not"
        assert seen["403"] > CONNECTIONS * 5
        assert_no_slow_turn(daemon, since=lookups.began)
        return lookups

    assert_answers_in_time(measure)
    wait_for(daemon.healthy, "it to be as before")
    assert daemon.info("lab")["state"] == "running"
