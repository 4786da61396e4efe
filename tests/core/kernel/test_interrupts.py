"""The effect of an interrupt, and how it is described."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kconnd.core.kernel.activity import OpenRequests
from kconnd.core.kernel.interrupts import (
    Effect,
    describe_ignored,
    describe_subshells,
    effect_of,
)

IDS = st.frozensets(st.sampled_from("abcd"))
REQUESTS = st.builds(OpenRequests, IDS, IDS)


def requests(main: str = "", subshells: str = "", unproven: str = "") -> OpenRequests:
    return OpenRequests(frozenset(main), frozenset(subshells), frozenset(unproven))


@pytest.mark.parametrize(
    ("before", "after", "effect"),
    [
        (requests("a"), requests(), Effect.ENDED),
        (requests("a"), requests("b"), Effect.ENDED),  # the next cell has begun
        (requests("ab"), requests("b"), Effect.IGNORED),
        (requests("a", "s"), requests("b", "s"), Effect.SUBSHELL_RUNS),
        (requests("a", "s"), requests("a"), Effect.IGNORED),
        (requests("", "s"), requests("a", "s"), Effect.IGNORED),
        (requests("", "s"), requests(), Effect.ENDED),
        (requests("a"), requests("a", "", "a"), Effect.SENT),  # it may have ended unseen
        (requests("a"), requests("ab", "", "b"), Effect.IGNORED),
    ],
)
def test_a_cell_was_interrupted_if_it_has_ended(
    before: OpenRequests, after: OpenRequests, effect: Effect
) -> None:
    assert effect_of(before, after) is effect


@given(REQUESTS, REQUESTS)
def test_what_began_later_changes_nothing(before: OpenRequests, later: OpenRequests) -> None:
    after = OpenRequests(later.main - before.main, later.subshells - before.subshells)
    assert effect_of(before, after) is Effect.ENDED
    goes_on = OpenRequests(before.main | after.main, before.subshells | after.subshells)
    assert effect_of(before, goes_on) is (Effect.IGNORED if before else Effect.ENDED)


def test_an_interrupt_without_effect_is_described_with_its_reason() -> None:
    sent = "interrupting lab: the interrupt was sent, but"
    assert describe_ignored("lab", 5.01, requests("a"), "ipython") == (
        f"{sent} the cell still runs after 5 s"
    )
    assert describe_ignored("lab", 5.01, requests("", "s"), "ipython") == (
        f"{sent} the cell still runs after 5 s, in a subshell; "
        "ipykernel can interrupt the main shell only"
    )
    assert describe_ignored("lab", 5.01, requests("", "s"), "other") == (
        f"{sent} the cell still runs after 5 s, in a subshell"
    )
    assert describe_ignored("lab", 5.01, requests(), "ipython") == (
        f"{sent} the kernel has not answered on its shell channel for 5 s"
    )


def test_work_in_subshells_is_described_if_there_is_no_other() -> None:
    assert describe_subshells(requests(), "ipython") == ""
    assert describe_subshells(requests("a", "s"), "ipython") == ""
    assert "can interrupt the main shell only" in describe_subshells(requests("", "s"), "ipython")
    assert describe_subshells(requests("", "s"), "x") == "it runs a cell in a subshell only"
