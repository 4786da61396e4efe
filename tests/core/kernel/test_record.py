"""Kernel records: saved, loaded, and refused where damaged."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kconnd.core.kernel.lifecycle import Desired, Lifecycle, State
from kconnd.core.kernel.record import (
    MAX_DECISIONS,
    Decision,
    KernelRecord,
    Origin,
    parse_record,
    to_json,
)
from tests.core.samples import RECORDS, TEXT

DATA = Path(__file__).parents[2] / "data"


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
    harmless = {"name", "profile", "handle", "decisions", "last_exit", "connection", "session"}
    harmless |= {"notebook"}
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
    for number in range(MAX_DECISIONS + 3):
        record = record.with_decision(Decision(number, "what", "why"))
    assert len(record.decisions) == MAX_DECISIONS
    assert record.decisions[0].at == 3
