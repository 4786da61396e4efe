"""What a user can do about a folder that cannot be used."""

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kconnd.core.unwritable_folder import ERRORS, cure_for, is_below

STATE = "/home/ada/.local/state/kconnd/1"


@pytest.mark.parametrize(
    ("path", "number", "has_home", "start"),
    [
        (STATE, errno.EACCES, True, "set HOME to a folder that you can write to"),
        (STATE, errno.EROFS, True, "set HOME to a folder that you can write to"),
        (STATE, errno.EACCES, False, "the home folder /home/ada does not exist"),
        (STATE, errno.ENOSPC, False, "the home folder /home/ada does not exist"),
        (STATE, errno.ENOSPC, True, f"free some space on the disk of {STATE}; or set HOME"),
        (STATE, errno.EDQUOT, True, "your quota is used up"),
        ("/tmp/kconnd-7", errno.EROFS, True, "make /tmp writable for you"),
        ("/tmp/kconnd-7", errno.EROFS, False, "make /tmp writable for you"),
        ("/home/adam/x", errno.EACCES, False, "make /home/adam writable for you"),
    ],
)
def test_each_cause_has_its_cure(path: str, number: int, *, has_home: bool, start: str) -> None:
    assert cure_for(path, number, "/home/ada", has_home=has_home).startswith(start)


@given(st.integers(1, 140), st.booleans())
def test_only_errors_with_a_cure_have_one(number: int, has_home: bool) -> None:  # noqa: FBT001  # by name
    assert bool(cure_for(STATE, number, "/home/ada", has_home=has_home)) == (number in ERRORS)


def test_every_path_is_below_the_root() -> None:
    assert is_below("/x", "/")
    assert not is_below("/", "/x")
