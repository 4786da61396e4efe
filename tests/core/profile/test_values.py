"""Connection info, messages, names, places, records: values and their forms."""

import contextlib
import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kconnd.core import paths
from kconnd.core.kernel.events import Step
from kconnd.core.kernel.lifecycle import (
    Desired,
    Ending,
    Lifecycle,
    State,
)
from kconnd.core.kernel.record import (
    DECISIONS,
    Decision,
    Facts,
    KernelRecord,
    LastExit,
    Origin,
    parse_record,
    to_json,
)
from kconnd.core.kernel.view import Sight, describe, describe_exit, describe_oom, iso
from kconnd.core.launch.connection import CHANNELS, ConnectionInfo, CurveKeys, parse_connection
from kconnd.core.launch.envfile import parse_env_file
from kconnd.core.names import parse_name
from kconnd.core.profile.difference import CHANGED, CURRENT, ORPHANED, compare, status
from kconnd.core.protocol.jupyter_messages import (
    DELIMITER,
    Signer,
    may_be,
    pack_request,
    parse_message,
)
from kconnd.core.protocol.socket_tables import (
    Connection,
    count_clients,
    parse_unix_diag,
    tcp_connections,
    unix_connections,
)
from kconnd.errors import UsageError

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"))
CONNECTIONS = st.builds(
    ConnectionInfo,
    transport=st.sampled_from(["tcp", "ipc"]),
    ip=st.sampled_from(["127.0.0.1", "::1", "/run/kconnd/ipc/lab"]),
    ports=st.tuples(*[st.integers(1, 65535)] * 5),
    key=TEXT,
    kernel_name=TEXT,
    curve=st.none() | st.builds(CurveKeys, TEXT, TEXT),
)
SECRETS = ConnectionInfo(
    "tcp", "127.0.0.1", (1, 2, 3, 4, 5), "K3Y", "python3", CurveKeys("PUBL1C", "S3CRET")
)


@given(CONNECTIONS)
def test_a_connection_file_is_read_as_it_was_written(connection: ConnectionInfo) -> None:
    assert parse_connection(json.loads(json.dumps(connection.to_file()))) == connection


@given(CONNECTIONS, st.sampled_from([f"{name}_port" for name in CHANNELS] + ["key", "ip"]))
def test_a_missing_field_is_named(connection: ConnectionInfo, field: str) -> None:
    content = connection.to_file()
    del content[field]
    with pytest.raises(ValueError, match=field):
        parse_connection(content)


def test_no_secret_is_in_a_repr_or_a_description() -> None:
    shown = (
        repr(SECRETS) + json.dumps(SECRETS.describe()) + repr(KernelRecord("k", connection=SECRETS))
    )
    for secret in ("K3Y", "PUBL1C", "S3CRET"):
        assert secret not in shown


def test_urls() -> None:
    assert SECRETS.url("control") == "tcp://127.0.0.1:4"
    assert replace(SECRETS, ip="::1").url("hb") == "tcp://[::1]:5"
    ipc = replace(SECRETS, transport="ipc", ip="/r/ipc/lab")
    assert ipc.url("shell") == "ipc:///r/ipc/lab-1"
    assert ipc.socket_paths()[4] == "/r/ipc/lab-5"


@given(TEXT, st.dictionaries(TEXT, st.integers()))
def test_a_message_is_read_by_who_has_the_key_and_by_nobody_else(
    key: str, content: dict[str, int]
) -> None:
    frames = pack_request("x", content, message_id="1", date="now", signer=Signer(key))
    message = parse_message([b"identity", *frames], Signer(key))
    assert message is not None
    assert (message.kind, message.content) == ("x", content)
    assert may_be("x", frames)
    assert not may_be("y", frames)
    assert parse_message(frames, Signer(key + "x")) is None


@given(st.lists(st.binary(max_size=20), max_size=8))
def test_garbage_is_no_message(frames: list[bytes]) -> None:
    assert parse_message(frames, Signer("k")) is None
    may_be("x", frames)  # must not raise
    unsigned = [DELIMITER, b"", *frames]
    parse_message(unsigned, Signer(""))  # must not raise
    parse_message([DELIMITER, b"", *[b"[" * 20_000] * 4], Signer(""))  # nor for a thousand brackets


@pytest.mark.parametrize("name", ["lab", "a", "A.b-c_d", "x" * 40, "lab@exp1", "lab@" + "y" * 40])
def test_names(name: str) -> None:
    profile, instance = parse_name(name)
    assert name == (f"{profile}@{instance}" if instance else profile)


@pytest.mark.parametrize(
    "name",
    ["", "..", "../x", "a/b", "-a", ".a", "a b", "x" * 41, "a@", "@a", "a@b@c", "a\n", "é", "a\0"],
)
def test_what_is_not_a_name(name: str) -> None:
    with pytest.raises(UsageError, match="is not a kernel name"):
        parse_name(name)


def test_places() -> None:
    env = {"XDG_RUNTIME_DIR": "/run/user/7", "XDG_STATE_HOME": "relative"}
    assert paths.runtime_dir(env, 7, lingers=True) == "/run/user/7/kconnd"
    assert paths.runtime_dir(env, 7, lingers=False) == "/tmp/kconnd-7"
    assert paths.runtime_dir({}, 7, lingers=True) == "/tmp/kconnd-7"
    assert paths.state_dir(env, "/home/u", "m1") == "/home/u/.local/state/kconnd/m1"
    assert paths.config_dir({"XDG_CONFIG_HOME": "/c"}, "/home/u") == "/c/kconnd/configs"


DATA = Path(__file__).parents[2] / "data"
LIFECYCLES = st.builds(
    Lifecycle,
    state=st.sampled_from(State),
    desired=st.sampled_from(Desired),
    generation=st.integers(0),
    restarts=st.integers(0),
    failures=st.integers(0),
    port_tries=st.integers(0, 5),
    proved=st.booleans(),
    unresponsive=st.booleans(),
    step=st.none() | st.sampled_from(Step),
    ending=st.none() | st.sampled_from(Ending),
    new_key=st.booleans(),
    reason=TEXT,
)
TIMES = st.none() | st.floats(0, 4e9)
RECORDS = st.builds(
    KernelRecord,
    name=st.just("lab"),
    lifecycle=LIFECYCLES,
    profile=st.none() | st.just({"name": "lab"}),
    handle=st.none() | st.just({"launcher": "local", "kernel": [1, 2]}),
    connection=st.none() | CONNECTIONS,
    facts=st.builds(Facts, started_at=TIMES, warnings=st.tuples(TEXT)),
    last_exit=st.none()
    | st.builds(LastExit, st.none() | st.integers(), st.none(), TEXT, TIMES, TEXT),
    decisions=st.lists(st.builds(Decision, st.floats(0, 4e9), TEXT, TEXT), max_size=3).map(tuple),
    origin=st.none() | st.builds(Origin, TEXT, TEXT, TEXT, TEXT),
)


@given(RECORDS)
def test_a_record_is_read_as_it_was_written(record: KernelRecord) -> None:
    assert parse_record(json.loads(json.dumps(to_json(record)))) == record


@given(RECORDS, st.data())
def test_a_damaged_record_is_refused_and_nothing_else(
    record: KernelRecord, data: st.DataObject
) -> None:
    content = to_json(record)
    key = data.draw(st.sampled_from(sorted(content)))
    content[key] = data.draw(st.sampled_from(["x", 7, {"state": "flying"}, []]))
    try:
        parse_record(content)
    except ValueError:
        return
    harmless = {"name", "profile", "handle", "decisions", "last_exit", "connection"}
    assert key in {*harmless, "pid_namespace"}


@given(RECORDS)
def test_a_daemon_of_the_version_before_accepts_a_record_s_origin(record: KernelRecord) -> None:
    """It refuses what it does not know in a part, and ignores whole parts that it does not know."""
    saved = to_json(record)["origin"]
    assert saved is None or set(saved) == {"machine", "host", "boot_id"}


def test_a_pid_namespace_is_also_read_where_it_was_saved_at_first() -> None:
    origin = Origin("m", "h", "b", "pid:[1]")
    content = to_json(KernelRecord("lab", origin=origin))
    content["origin"]["pid_namespace"] = content.pop("pid_namespace")
    assert parse_record(content).origin == origin
    del content["origin"]["pid_namespace"]
    assert parse_record(content).origin == replace(origin, pid_namespace="")


@pytest.mark.parametrize("path", sorted(DATA.glob("state-*/record.json")), ids=str)
def test_records_of_every_released_format_load_for_ever(path: Path) -> None:
    record = parse_record(json.loads(path.read_bytes()))
    assert (record.name, record.lifecycle.state) == ("lab", State.RUNNING)
    assert record.lifecycle.desired is Desired.UP
    assert to_json(record)["lifecycle"]["wanted"] == "up"  # so that a daemon of 0.1.0 can read it
    assert (record.lifecycle.generation, record.lifecycle.restarts) == (2, 1)
    assert record.connection is not None
    assert (record.connection.transport, len(set(record.connection.ports))) == ("tcp", 5)
    assert record.origin is not None
    assert record.last_exit is not None
    assert (record.last_exit.signal, record.facts.language) == (6, "python")
    assert len(record.decisions) == 7


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2),
    max_leaves=4,
)


@given(st.data())
def test_junk_anywhere_in_a_record_is_refused_or_harmless(data: st.DataObject) -> None:
    """Whatever is accepted has the right types, so nothing else has to be afraid of it."""
    content = json.loads((DATA / "state-1" / "record.json").read_bytes())
    place, key = content, data.draw(st.sampled_from(sorted(content)))
    while isinstance(place[key], dict) and data.draw(st.booleans()):
        place = place[key]
        key = data.draw(st.sampled_from(sorted(place)))
    place[key] = data.draw(JUNK)
    try:
        record = parse_record(content)
    except ValueError:
        return
    kernel = record.lifecycle
    assert [type(one) for one in (kernel.generation, kernel.restarts)] == [int, int]
    assert [type(one) for one in (kernel.proved, kernel.new_key)] == [bool, bool]
    assert isinstance(kernel.reason, str)
    assert record.profile is None or isinstance(record.profile, dict)
    saved = json.dumps(to_json(record))  # as text, in which what is not a number equals itself
    assert json.dumps(to_json(parse_record(json.loads(saved)))) == saved


def test_no_deadline_is_ever_saved() -> None:
    record = KernelRecord("lab", replace(Lifecycle(), deadline=123456.0))
    assert "123456" not in json.dumps(to_json(record))


def test_the_oldest_decision_is_forgotten() -> None:
    record = KernelRecord("lab")
    for number in range(DECISIONS + 3):
        record = record.noted(Decision(number, "what", "why"))
    assert len(record.decisions) == DECISIONS
    assert record.decisions[0].at == 3


@given(RECORDS)
def test_what_is_shown_has_every_field_and_no_secret(record: KernelRecord) -> None:
    record = replace(record, connection=SECRETS)
    if record.handle:
        record = replace(record, handle={"launcher": "local", "kernel": [1, 2]})
    shown: dict[str, Any] = describe(record, Sight("me", CURRENT, "/c", "/l"))
    assert shown.keys() >= FIELDS
    assert all(secret not in json.dumps(shown) for secret in ("K3Y", "PUBL1C", "S3CRET"))


FIELDS = {
    *("name", "profile", "owner", "state", "wanted", "pid", "generation", "restarts"),
    *("started_at", "ready_after", "launcher", "kernel_name", "language", "connection_file"),
    *("connection", "heartbeat", "execution_state", "last_activity", "last_exit", "log_file"),
}


def test_words_for_an_exit() -> None:
    assert describe_exit(3, None) == "exited with code 3"
    assert describe_exit(None, 9) == "killed by SIGKILL"
    assert describe_exit(None, 250) == "killed by signal 250"
    assert describe_exit(None, None) == "ended, and nobody saw how"
    assert describe_oom(own=True, above="") == "killed for going over its memory limit"
    slice_ = "the memory limit of kconnd-7.slice, which counts all kernels of its user together"
    assert describe_oom(own=False, above="kconnd-7.slice") == f"killed for {slice_}"
    both = describe_oom(own=True, above="kconnd-7.slice")
    assert both == f"killed for memory: for its own limit, or for {slice_}"
    assert "all that is in it" in describe_oom(own=False, above="docker-1.scope")
    assert "the machine had no memory left" in describe_oom(own=False, above="")
    assert iso(0.0015) == "1970-01-01T00:00:00.001Z"
    assert iso(None) is None


def test_reload_is_a_comparison() -> None:
    difference = compare({"a": 1, "b": 2, "c": 3}, {"b": 2, "c": 4, "d": 5})
    assert (difference.added, difference.changed) == (("d",), ("c",))
    assert (difference.removed, difference.unchanged) == (("a",), ("b",))
    assert [status(1, 1), status(1, 2), status(1, None), status(None, 2)] == [
        CURRENT,
        CHANGED,
        ORPHANED,
        CURRENT,
    ]


def test_environment_files() -> None:
    text = '# comment\nA=1\nB=\'two words\' \n\nC=x=y # end\nD="q\\"q"\n'
    assert parse_env_file(text) == {"A": "1", "B": "two words", "C": "x=y", "D": 'q"q'}


@pytest.mark.parametrize("text", ["A", "1A=2", "A='open", "=x", "A-B=1"])
def test_bad_environment_files_name_the_line(text: str) -> None:
    with pytest.raises(ValueError, match="line 2"):
        parse_env_file("X=1\n" + text)


TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:4E20 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1
   1: 0100007F:4E20 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 2 1
   2: 0100007F:9C40 0100007F:4E20 01 00000000:00000000 00:00000000 00000000     0        0 3 1
"""


def test_clients_are_counted_on_the_kernels_side() -> None:
    found = list(tcp_connections([TCP], [20000]))
    assert found == [Connection("20000", 3)]
    assert count_clients(found, {3}) == 0
    sockets: list[dict[str, int | str]] = [
        {"state": 10, "path": "/r/lab-1", "peer": 0},
        {"state": 1, "path": "/r/lab-1", "peer": 7},
        {"state": 1, "path": "/r/lab-1", "peer": 8},
        {"state": 1, "path": "/r/lab-2", "peer": 9},
        {"state": 1, "path": "/r/other", "peer": 10},
    ]
    of_lab = list(unix_connections(sockets, {"/r/lab-1", "/r/lab-2"}))
    assert count_clients(of_lab, set()) == 2
    assert count_clients(of_lab, {7}) == 1


@given(st.binary(max_size=200))
def test_garbage_from_the_system_ends_and_does_no_harm(reply: bytes) -> None:
    with contextlib.suppress(OSError, struct.error):
        parse_unix_diag(reply)
