"""The notebook for which a kernel is started, as a front end sends it."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kconnd.core.launch.notebook import MAX_TEXT_CHARS, Notebook, Run, next_notebook, parse_notebook
from kconnd.errors import UsageError

FIRST, SECOND = Notebook("/a", "/a/1.ipynb"), Notebook("/b", "/b/2.ipynb")


RUN = replace(FIRST, run=Run(7, 100))


def test_a_kernel_that_is_started_again_without_its_run_outlives_it() -> None:
    assert parse_notebook(RUN.to_json()) == RUN
    assert next_notebook(RUN, None, is_up=True, is_own=True) == RUN
    assert next_notebook(RUN, None, is_up=False, is_own=True) == FIRST
    assert next_notebook(RUN, SECOND, is_up=True, is_own=True) == SECOND
    assert next_notebook(None, None, is_up=False, is_own=True) is None


def test_fields_of_later_versions_are_ignored_and_defaults_are_not_sent() -> None:
    assert parse_notebook({**FIRST.to_json(), "later": 1}) == FIRST
    assert parse_notebook({}).to_json() == {}


@pytest.mark.parametrize(
    "content",
    [
        "text",
        {"folder": "sub"},
        {"folder": 1},
        {"name": "a\0b"},
        {"run": [1]},
        {"run": [True, 1]},
        {"name": "x" * (MAX_TEXT_CHARS + 1)},
    ],
)
def test_what_is_no_notebook_is_refused(content: object) -> None:
    with pytest.raises(UsageError, match="notebook"):
        parse_notebook(content)


def test_a_shared_kernel_stays_in_its_folder() -> None:
    assert next_notebook(FIRST, SECOND, is_up=True, is_own=False) == FIRST
    assert next_notebook(FIRST, SECOND, is_up=False, is_own=False) == SECOND
    assert next_notebook(None, SECOND, is_up=True, is_own=False) == SECOND


@given(st.booleans())
def test_the_kernel_of_a_notebook_follows_it(is_up: bool) -> None:  # noqa: FBT001  # drawn
    assert next_notebook(FIRST, SECOND, is_up=is_up, is_own=True) == SECOND
