"""The name of a kernel's unit: valid for systemd, and of this kernel alone."""

import re

from hypothesis import given
from hypothesis import strategies as st

from kconnd.core.unit_names import unit_name

NAMES = st.from_regex(
    r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}(@[A-Za-z0-9][A-Za-z0-9._-]{0,39})?", fullmatch=True
)


@given(st.integers(0, 1 << 32), NAMES, st.integers(1, 10**9))
def test_a_units_name_holds_nothing_but_a_units_name(uid: int, name: str, generation: int) -> None:
    unit = unit_name(uid, name, generation)
    assert re.fullmatch(r"kconnd-kernel-[A-Za-z0-9._\\-]+\.service", unit)
    assert len(unit) < 256  # UNIT_NAME_MAX


@given(NAMES, NAMES)
def test_two_kernels_never_share_a_unit(one: str, other: str) -> None:
    assert (unit_name(1, one, 1) == unit_name(1, other, 1)) == (one == other)
