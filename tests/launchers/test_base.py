"""A handle outlives the daemon in a kernel's record."""

import json

from kconnd.launchers.base import Handle, parse_handle
from kconnd.system.process.processes import ProcessId

HANDLE = Handle(
    launcher="fork",
    generation=3,
    boot_id="a-boot",
    shim=ProcessId(10, 100),
    kernel=ProcessId(11, 101),
    exit_file="/exit",
    lock="/lock",
    facts="/facts",
    note="not forked",
    launch=2,
    cgroup="/kconnd.slice/k",
)


def test_a_handle_is_read_back_as_it_was_saved() -> None:
    assert parse_handle(json.loads(json.dumps(HANDLE.to_json()))) == HANDLE


def test_a_handle_of_an_earlier_version_has_fewer_fields() -> None:
    saved = HANDLE.to_json()
    for name in ("facts", "note", "launch", "cgroup"):
        del saved[name]
    handle = parse_handle(saved)
    assert (handle.facts, handle.note, handle.launch, handle.cgroup) == ("", "", None, "")
