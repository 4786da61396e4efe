"""Which unit of the system's a place in the tree of control groups is in."""

import pytest

from kconnd.system.cgroups import unit_in


@pytest.mark.parametrize(
    ("place", "unit"),
    [
        ("/kconnd.slice/kconnd-7.slice/kconnd@7.service", "kconnd@7.service"),
        ("/kconnd.slice/kconnd-7.slice/kconnd@7.service/below", "kconnd@7.service"),
        ("/user.slice/user-7.slice/user@7.service/app.slice/kconnd@7.service", "user@7.service"),
        ("/user.slice/user-7.slice/session-1.scope/kconnd@7.service", "session-1.scope"),
        ("/kconnd.slice", ""),
        ("/", ""),
        ("", ""),
    ],
)
def test_what_is_below_a_unit_is_of_that_unit_whatever_it_is_called(place: str, unit: str) -> None:
    assert unit_in(place) == unit
