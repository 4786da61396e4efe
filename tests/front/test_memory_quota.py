"""`decide` as a table: the limit of a slice, and the record of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kconnd.front.memory_quota import AppliedLimit, decide
from kconnd.system.systemd.unit_control import UNLIMITED

SIZES = st.integers(1, 9) | st.just(UNLIMITED)
QUOTAS = st.none() | SIZES


@pytest.mark.parametrize(
    ("quota", "current", "mark", "found"),
    [
        (None, 7, None, (None, None)),  # an administrator's own
        (5, UNLIMITED, None, (5, AppliedLimit(5, UNLIMITED))),
        (5, 3, None, (None, None)),  # theirs is lower
        (5, 8, None, (5, AppliedLimit(5, 8))),
        (5, 5, AppliedLimit(5, 8), (None, AppliedLimit(5, 8))),
        (6, 5, AppliedLimit(5, 8), (6, AppliedLimit(6, 8))),
        (None, 5, AppliedLimit(5, 8), (8, None)),  # lifted
        (None, 4, AppliedLimit(5, 8), (None, None)),  # set by somebody since
    ],
)
def test_what_is_set(
    quota: int | None,
    current: int,
    mark: AppliedLimit | None,
    found: tuple[int | None, AppliedLimit | None],
) -> None:
    assert decide(quota, current, mark) == found


@given(SIZES, st.lists(QUOTAS))
def test_whatever_the_quotas_were_the_last_one_holds(before: int, quotas: list[int | None]) -> None:
    current, mark = before, None
    for quota in quotas:
        size, mark = decide(quota, current, mark)
        current = current if size is None else size
        assert current == (before if quota is None else min(quota, before))
