"""A reload is a comparison of two sets of profiles."""

from kconnd.core.profile.difference import (
    CHANGED,
    CURRENT,
    ORPHANED,
    compare_profiles,
    profile_status,
)


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
