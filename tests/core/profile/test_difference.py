"""A reload is a comparison of two sets of profiles."""

from kconnd.core.profile.difference import (
    CHANGED,
    CURRENT,
    ORPHANED,
    compare_profiles,
    profile_status,
    revoked_names,
)
from kconnd.core.profile.model import Access


def test_reload_is_a_comparison() -> None:
    difference = compare_profiles({"a": 1, "b": 2, "c": 3}, {"b": 2, "c": 4, "d": 5})
    assert (difference.added, difference.changed) == (("d",), ("c",))
    assert (difference.removed, difference.unchanged) == (("a",), ("b",))
    assert [
        profile_status(1, 1),
        profile_status(1, 2),
        profile_status(1, None),
        profile_status(None, 2),
    ] == [
        CURRENT,
        CHANGED,
        ORPHANED,
        CURRENT,
    ]


def test_names_that_lost_the_right_to_connect() -> None:
    before = Access(see=("eve",), connect=("ada", "bob"), manage=("@ops",))
    assert revoked_names(before, Access(connect=("bob",), see=("ada",))) == ("@ops", "ada")
    assert revoked_names(before, None) == ("@ops", "ada", "bob")
    assert revoked_names(None, before) == ()
