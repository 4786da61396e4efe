"""What the front door believes of a daemon that may lie."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from kconnd.core.record import KernelRecord
from kconnd.core.view import Sight, describe
from kconnd.front.hearsay import FIELDS, believed

ROW = describe(KernelRecord("lab"), Sight("ada", "current", "", "/log"))


def test_what_a_daemon_really_says_is_believed() -> None:
    (row,) = believed({"kernels": [ROW]}, 1000, "ada") or []
    assert {key: row[key] for key in FIELDS} == {key: ROW[key] for key in FIELDS}


def test_whose_a_kernel_is_is_not_asked() -> None:
    (row,) = believed({"kernels": [{**ROW, "owner": "root", "uid": 0}]}, 1000, "ada") or []
    assert (row["owner"], row["uid"]) == ("ada", 1000)


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)
ROWS = st.dictionaries(st.sampled_from([*FIELDS, "heartbeat", "owner"]), JUNK)


@given(JUNK | st.fixed_dictionaries({"kernels": JUNK | st.lists(ROWS.map(lambda r: {**ROW, **r}))}))
def test_lies_are_left_out_or_harmless(reply: Any) -> None:
    found = believed(reply, 1000, "ada")
    for row in found or []:
        assert (row["owner"], row["uid"]) == ("ada", 1000)
        assert set(row) == {*FIELDS, "heartbeat", "owner", "uid"}
        assert all(isinstance(row[key], kinds) for key, kinds in FIELDS.items())


def test_a_million_kernels_are_too_many() -> None:
    found = believed({"kernels": [ROW] * 5000}, 1000, "ada")
    assert found is not None
    assert len(found) == 1000
