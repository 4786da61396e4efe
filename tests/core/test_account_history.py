"""Which account a uid is: by its name, with a number that no other account of the uid has."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kconnd.core.account_history import (
    Account,
    account_number,
    current_account,
    dump_account,
    is_usable_uid,
    parse_account,
    unit_of_account,
)
from kconnd.core.unit_names import unit_name
from kconnd.errors import StateFileError

NAMES = st.text(min_size=1, max_size=20)
NUMBERS = st.integers(1, 10**9 - 1) | st.integers(1, 4)  # the small ones are often neighbours
ACCOUNTS = st.builds(Account, NAMES, NUMBERS)


@given(ACCOUNTS, NAMES, st.lists(NUMBERS))
def test_another_name_is_another_account_and_the_same_name_the_same(
    known: Account, name: str, used: list[int]
) -> None:
    found = current_account(known, name, used)
    assert found.name == name
    assert (found is known) == (name == known.name)
    assert found is known or found.number not in {known.number, *used}


@given(NAMES, st.lists(NUMBERS))
def test_what_nobody_knows_is_of_who_comes_first(name: str, used: list[int]) -> None:
    found = current_account(None, name, used)
    assert found.name == name
    assert found.number not in used
    assert used or found.number == 1


@given(ACCOUNTS)
def test_what_is_kept_is_read_back(account: Account) -> None:
    assert parse_account(dump_account(account), "x") == account


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{}",
        b"[]",
        b"7",
        b'{"name": "ada"}',
        b'{"name": "", "number": 1}',
        b'{"name": "ada", "number": 0}',
        b'{"name": 7, "number": 1}',
        b'{"name": "ada", "number": "1"}',
        b"[" * 100_000,
    ],
)
def test_what_is_none_is_an_error_that_says_what_to_do(text: bytes) -> None:
    with pytest.raises(StateFileError, match="reading /x: it does not name") as caught:
        parse_account(text, "/x")
    assert "remove the file" in caught.value.hint


@given(
    st.integers(0, (1 << 32) - 2),
    st.from_regex(r"[a-z][a-z0-9._-]{0,30}", fullmatch=True),
    st.integers(1, 10**9),
    NUMBERS,
    st.sampled_from(["service", "scope"]),
)
def test_a_unit_says_of_which_account_it_is(
    uid: int, name: str, generation: int, number: int, kind: str
) -> None:
    plain = unit_name(uid, name, generation, kind)
    unit = unit_of_account(plain, number)
    assert account_number(unit) == number
    assert account_number(plain) == 1
    assert (unit == plain) == (number == 1)
    assert unit.endswith(f".{kind}")


@pytest.mark.parametrize(
    ("uid", "usable"),
    [
        (0, True),
        (65534, True),
        (65535, False),
        (65536, True),
        (3_000_000_000, True),
        (4_294_967_294, True),
        (4_294_967_295, False),
        (4_294_967_296, False),
        (-1, False),
    ],
)
def test_which_uids_there_are(uid: int, usable: object) -> None:
    assert is_usable_uid(uid) is usable


def test_the_file_is_plain_json() -> None:
    assert json.loads(dump_account(Account("ada", 2))) == {"name": "ada", "number": 2}
