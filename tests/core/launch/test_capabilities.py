"""Facts about a kernel's software: which source wins, what is stored, and the file's format."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kconnd.core.launch.capabilities import (
    CURVE,
    MAX_KERNELS,
    SECONDS_TO_START,
    UNIX_SOCKETS,
    Fact,
    FactSource,
    LearnedSoftware,
    combine,
    keep_latest,
    learned_to_json,
    news_in,
    parse_facts,
    parse_learned,
    software_key,
)

FLAGS = st.builds(
    Fact, st.booleans(), st.sampled_from(FactSource), st.text(max_size=9), st.floats(0, 2e9)
)
FACTS = st.fixed_dictionaries({}, optional={UNIX_SOCKETS: FLAGS, CURVE: FLAGS})


def fact(value: Any, source: FactSource = FactSource.START) -> Fact:
    return Fact(value, source, "seen", 5.0)


@pytest.mark.parametrize(
    ("first", "second", "winner"),
    [
        (FactSource.PROBE, FactSource.MEASURED, 0),
        (FactSource.MEASURED, FactSource.START, 0),
        (FactSource.START, FactSource.METADATA, 0),
        (FactSource.METADATA, FactSource.DECLARED, 0),
        (FactSource.START, FactSource.START, 1),
        (FactSource.DECLARED, FactSource.PROBE, 1),
    ],
)
def test_the_stronger_source_wins_and_then_the_later_mapping(
    first: FactSource, second: FactSource, winner: int
) -> None:
    facts = (fact(value=True, source=first), fact(value=False, source=second))
    combined = combine({CURVE: facts[0]}, {CURVE: facts[1]})
    assert combined == {CURVE: facts[winner]}


@given(FACTS, FACTS)
def test_a_combination_has_each_fact_of_either(first: Any, second: Any) -> None:
    combined = combine(first, second)
    assert combined.keys() == first.keys() | second.keys()
    assert all(combined[name] in {first.get(name), second.get(name)} for name in combined)
    assert not news_in(combined, {})
    assert news_in({}, combined) == combined


def test_only_what_is_new_is_stored() -> None:
    known = {CURVE: fact(value=True), SECONDS_TO_START: fact(2.0)}
    assert not news_in(known, {CURVE: fact(value=True), SECONDS_TO_START: fact(3.9)})
    assert news_in(known, {CURVE: fact(value=False)}) == {CURVE: fact(value=False)}
    assert news_in(known, {SECONDS_TO_START: fact(4.1)}).keys() == {SECONDS_TO_START}
    likely = {CURVE: fact(value=True, source=FactSource.METADATA)}
    assert news_in(likely, {CURVE: fact(value=True)}).keys() == {CURVE}
    measured = {CURVE: fact(value=True, source=FactSource.MEASURED)}
    assert not news_in(measured, {CURVE: fact(value=False)})


@given(st.dictionaries(st.text(max_size=5), st.builds(LearnedSoftware, st.text(max_size=5), FACTS)))
def test_the_file_keeps_what_was_learned(learned: Any) -> None:
    assert parse_learned(json.loads(json.dumps(learned_to_json(learned)))) == learned


@pytest.mark.parametrize(
    "content",
    [
        {"value": 1, "source": "start", "evidence": "", "at": 1},
        {"value": True, "source": "rumour", "evidence": "", "at": 1},
        {"value": True, "source": "start", "evidence": "", "at": "now"},
        {"value": True, "source": "start", "evidence": "", "at": float("nan")},
        "yes",
        None,
    ],
)
def test_a_fact_that_makes_no_sense_is_left_out(content: object) -> None:
    good = {"value": False, "source": "probe", "evidence": "x" * 999, "at": None}
    facts = parse_facts({CURVE: content, UNIX_SOCKETS: good, "flies": good})
    assert facts == {UNIX_SOCKETS: Fact(False, FactSource.PROBE, "x" * 200)}  # noqa: FBT003  # the value


@pytest.mark.parametrize("seconds", [-1, 1e9, True, "1"])
def test_a_time_that_makes_no_sense_is_left_out(seconds: object) -> None:
    content = {"value": seconds, "source": "start", "evidence": "", "at": None}
    assert parse_facts({SECONDS_TO_START: content}) == {}


@pytest.mark.parametrize("content", [{}, [], {"version": 2, "kernels": {}}, {"version": 1}])
def test_another_file_is_refused(content: object) -> None:
    with pytest.raises(ValueError, match="it "):
        parse_learned(content)


def test_the_oldest_facts_are_dropped_where_there_are_too_many() -> None:
    learned = {
        str(number): LearnedSoftware(
            "x",
            {CURVE: Fact(True, FactSource.START, "", number)},  # noqa: FBT003  # the value
        )
        for number in range(MAX_KERNELS + 3)
    }
    latest = keep_latest(learned)
    assert len(latest) == MAX_KERNELS
    assert latest.keys() == learned.keys() - {"0", "1", "2"}


def test_a_key_differs_by_each_of_its_parts() -> None:
    keys = {
        software_key(spec, program, stamps)
        for spec in (["R"], ["r"])
        for program in ("/bin/R", "/opt/R")
        for stamps in ([("/lib", 1, 2)], [("/lib", 1, 3)], [])
    }
    assert len(keys) == 12


def test_a_probe_is_always_stored_with_its_new_date() -> None:
    known = {CURVE: Fact(value=True, source=FactSource.PROBE, evidence="old", at=1.0)}
    news = {CURVE: Fact(value=True, source=FactSource.PROBE, evidence="new", at=2.0)}
    assert news_in(known, news) == news
    assert news_in(news, {CURVE: fact(value=False)}) == {}
