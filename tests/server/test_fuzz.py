"""The front door's OpenAPI document, driven by schemathesis."""

import sys

from tests.server.box import Box

FRONT_SOCKET = "/run/kconnd/kconnd.sock"


def test_requests_made_from_the_front_doors_document(box: Box) -> None:
    front = box.main_pid("kconnd.service")
    root = __file__.rpartition("/tests/")[0]
    done = box.run(f"cd {root} && {sys.executable} -m tests.server.fuzz_document {FRONT_SOCKET}")
    assert int(done.out) > 60  # few of its requests have anything to vary
    assert box.main_pid("kconnd.service") == front
    assert "Traceback" not in box.run("journalctl --no-pager -u kconnd.service").out


def test_most_hostile_inputs_reach_what_is_behind_the_parser(box: Box) -> None:
    root = __file__.rpartition("/tests/")[0]
    attack = f"cd {root} && {sys.executable} -m tests.server.fuzz {FRONT_SOCKET} 2000"
    found = box.as_daemon(attack, 0).json()
    assert found["faults"] == []
    assert found["reached as 0"] > 900
