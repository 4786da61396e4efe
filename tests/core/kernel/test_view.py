"""The fields of a reply about a kernel, and its words for an exit."""

import json
from dataclasses import replace
from typing import Any

from hypothesis import given

from kconnd.core.kernel.lifecycle import Desired, Lifecycle, State
from kconnd.core.kernel.record import Facts, KernelRecord
from kconnd.core.kernel.view import LiveStatus, describe, describe_exit, describe_oom, iso_time
from kconnd.core.profile.difference import CURRENT
from tests.core.samples import RECORDS, SECRETS


@given(RECORDS)
def test_what_is_shown_has_every_field_and_no_secret(record: KernelRecord) -> None:
    record = replace(record, connection=SECRETS)
    if record.handle:
        record = replace(record, handle={"launcher": "local", "kernel": [1, 2]})
    shown: dict[str, Any] = describe(record, LiveStatus("me", CURRENT, "/c", "/l"))
    assert shown.keys() >= FIELDS
    assert all(secret not in json.dumps(shown) for secret in ("K3Y", "PUBL1C", "S3CRET"))


FIELDS = {
    *("name", "profile", "owner", "state", "wanted", "pid", "generation", "restarts"),
    *("started_at", "ready_after", "launcher", "kernel_name", "language", "connection_file"),
    *("connection", "heartbeat", "execution_state", "last_activity", "last_exit", "log_file"),
}


def test_a_live_kernel_shows_its_process_and_an_ended_one_shows_none() -> None:
    live = KernelRecord(
        "lab@1",
        Lifecycle(State.RUNNING, Desired.UP, generation=3),
        handle={"launcher": "fork", "kernel": [7, 1]},
        facts=Facts(started_at=0.0),
    )
    status = LiveStatus("me", CURRENT, "/c", "/l")
    of_process = ("pid", "launcher", "started_at", "connection_file", "umask")
    shown = describe(live, status)
    assert (shown["name"], shown["profile"], shown["generation"]) == ("lab@1", "lab", 3)
    assert (shown["state"], shown["wanted"]) == ("running", "up")
    assert [shown[key] for key in of_process] == [
        *(7, "fork", "1970-01-01T00:00:00.000Z", "/c"),
        "022",
    ]
    handle = {"launcher": "fork", "kernel": [7, 1], "limits": {"tasks": 9}}
    limited = describe(replace(live, handle={**handle, "unenforced": {"cpu": "why"}}), status)
    assert limited["limits"] == {"tasks": 9}
    assert limited["limits_unenforced"] == "limits.cpu is not enforced: why"
    private = replace(live, profile={"umask": "077"})
    assert describe(private, status)["umask"] == "077"
    ended = replace(live, lifecycle=Lifecycle(State.FAILED, Desired.UP))
    shown = describe(ended, status)
    assert shown["state"] == "failed"
    assert [shown[key] for key in of_process] == [None] * 5


def test_words_for_an_exit() -> None:
    assert describe_exit(3, None) == "exited with code 3"
    assert describe_exit(None, 9) == "killed by SIGKILL"
    assert describe_exit(None, 250) == "killed by signal 250"
    assert describe_exit(None, 24) == (
        "killed by SIGXCPU (its limit of processor time was reached: ulimit -t)"
    )
    assert describe_exit(None, None) == "exited with an unknown status"
    assert describe_oom(own=True, above="") == "killed because it exceeded its memory limit"
    own = describe_oom(own=True, above="", limit="1G")
    assert own == "killed because it exceeded its memory limit of 1G (limits.memory in its profile)"
    slice_ = "the memory limit of kconnd-7.slice, which counts all kernels of its user together"
    assert describe_oom(own=False, above="kconnd-7.slice") == f"killed because of {slice_}"
    both = describe_oom(own=True, above="kconnd-7.slice")
    assert both == f"killed because of its own memory limit, or of {slice_}"
    assert "all processes in it" in describe_oom(own=False, above="docker-1.scope")
    assert "the machine had no memory left" in describe_oom(own=False, above="")
    assert iso_time(0.0015) == "1970-01-01T00:00:00.001Z"
    assert iso_time(None) is None
