"""The table of verbs: complete and consistent, and what help and suggestions make of it."""

import importlib
import re
import string
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kconnd.cli.command_line import LIST_COUNTS, REQUIRED_COUNTS, options_of
from kconnd.cli.grammar import VERBS
from kconnd.cli.help_text import overview, terminal_columns, verb_help
from kconnd.cli.suggestions import FOREIGN_VERBS, suggest_verb
from tests.cli.conftest import Ctl, on_a_terminal

LOOKING = sorted(
    {name for name, verb in VERBS.items() if not verb.changes}
    | {name for name, verb in FOREIGN_VERBS.items() if not verb.changes}
)
CHANGING = {name for name, verb in VERBS.items() if verb.changes}


@pytest.mark.parametrize("name", VERBS)
def test_a_verb_is_consistent_and_its_handler_exists(name: str) -> None:
    verb = VERBS[name]
    module, _, function = verb.handler.partition(":")
    assert callable(getattr(importlib.import_module(f"kconnd.cli.{module}"), function))
    assert verb.summary
    assert verb.description.endswith((".", "schema.json"))
    assert not verb.summary.endswith(".")
    spellings = [spelling for option in options_of(verb) for spelling in option.spellings]
    names = [option.name for option in options_of(verb)]
    names += [operand.name for operand in verb.operands]
    assert len(spellings) == len(set(spellings))
    assert len(names) == len(set(names))
    assert set(chain(*verb.exclusive)) <= set(spellings)
    assert all(operand.count in REQUIRED_COUNTS | LIST_COUNTS | {"?"} for operand in verb.operands)
    assert not any(operand.count for operand in verb.operands[:-1]), "only the last can vary"
    assert verb.example.startswith(f"kconnd-ctl {name} ") or not verb.example


# --- help


@given(st.integers(40, 100))
def test_help_is_wrapped_to_the_width(columns: int) -> None:
    for text in (overview(columns), *(verb_help(verb, columns) for verb in VERBS.values())):
        for line in text.splitlines():
            assert line == line.rstrip()
            # A label, an example or a word that is longer than the width stays whole.
            indent = len(line) - len(line.lstrip())
            assert len(line) <= columns or indent <= 2 or " " not in line.strip()


@pytest.mark.parametrize(
    ("env", "columns"),
    [
        ({}, 80),
        ({"COLUMNS": "50"}, 50),
        ({"COLUMNS": "9"}, 40),
        ({"COLUMNS": "9" * 30}, 80),
        ({"COLUMNS": "300"}, 100),
        ({"COLUMNS": "x"}, 80),
    ],
)
def test_without_a_terminal_the_environment_gives_the_width(
    env: dict[str, str], columns: int, capfd: pytest.CaptureFixture[str]
) -> None:
    assert terminal_columns(env) == columns
    assert capfd.readouterr().out == ""


def test_help_on_a_terminal_has_its_width() -> None:
    code, shown = on_a_terminal("stop", "--help", columns=60)
    lines = shown.splitlines()
    assert code == 0
    assert 50 < max(map(len, lines)) <= 60


@pytest.mark.parametrize("name", VERBS)
def test_help_of_a_verb_lists_its_arguments(name: str, ctl: Ctl) -> None:
    shown = ctl("help", name)
    assert (shown.code, shown.err) == (0, "")
    assert shown.out == ctl(name, "--help").out == ctl(name, "-h").out
    for option in options_of(VERBS[name]):
        assert all(spelling in shown.out for spelling in option.spellings)
    for operand in VERBS[name].operands:
        assert f"\n  {operand.metavar} " in shown.out


def test_help_without_a_verb_is_the_overview(ctl: Ctl) -> None:
    assert ctl("help").out == ctl("--help").out
    assert ctl("help", "ps").code == 2


# --- suggestions


@pytest.mark.parametrize("word", FOREIGN_VERBS)
def test_a_verb_of_docker_or_systemctl_is_answered_with_ours(word: str, ctl: Ctl) -> None:
    shown = ctl(word, "a")
    assert (shown.code, shown.out) == (2, "")
    verbs = named_verbs(shown.err)
    assert verbs
    assert verbs <= {*VERBS}


def named_verbs(hint: str) -> set[str]:
    return {*re.findall(r"kconnd-ctl ([a-z]+)", hint), *re.findall(r"'([a-z]+)'\?", hint)}


def edits(word: str) -> set[str]:
    """List all words at an edit distance of 1: delete, swap, replace, insert."""
    splits = [(word[:place], word[place:]) for place in range(len(word) + 1)]
    letters = string.ascii_lowercase + "-"
    return {
        *(left + right[1:] for left, right in splits if right),
        *(left + right[1] + right[0] + right[2:] for left, right in splits if len(right) > 1),
        *(left + letter + right[1:] for left, right in splits if right for letter in letters),
        *(left + letter + right for left, right in splits for letter in letters),
    } - {"", word}


@pytest.mark.parametrize("looking", LOOKING)
def test_no_verb_that_changes_is_offered_for_one_that_looks(looking: str) -> None:
    """Every word at an edit distance of 1, of all verbs that look, ours and those of others."""
    for word in edits(looking) - {*VERBS, *FOREIGN_VERBS}:
        assert not named_verbs(suggest_verb(word)) & CHANGING, word
    if looking not in VERBS:
        assert not named_verbs(suggest_verb(looking)) & CHANGING


@given(st.sampled_from(LOOKING), st.data())
def test_nor_for_two_edits_of_a_longer_word(looking: str, data: st.DataObject) -> None:
    if len(looking) < 6:
        return
    once = data.draw(st.sampled_from(sorted(edits(looking))))
    word = data.draw(st.sampled_from(sorted(edits(once) - {*VERBS, *FOREIGN_VERBS})))
    assert not named_verbs(suggest_verb(word)) & CHANGING


@pytest.mark.parametrize("changing", sorted(CHANGING))
def test_a_misspelled_verb_that_changes_is_recognized(changing: str) -> None:
    """It is offered unless a verb that looks is near as well."""
    words = edits(changing) - {*VERBS, *FOREIGN_VERBS}
    offered = [word for word in words if changing in named_verbs(suggest_verb(word))]
    assert len(offered) > 0.7 * len(words)


@pytest.mark.parametrize(
    ("word", "verb"),
    [
        ("lsit", "list"),
        ("conn", "connection"),
        ("strat", "start"),
        ("stp", "stop"),
        ("stat", "info"),
        ("tops", "list"),
        ("prof", "profiles"),
    ],
)
def test_suggestions(word: str, verb: str) -> None:
    assert verb in named_verbs(suggest_verb(word))
