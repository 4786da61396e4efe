"""What is plainly written is read without argparse, and as argparse would read it."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kconnd.cli.arguments import Parser, parser
from kconnd.errors import UsageError

NAMES: dict[str, dict[str, Any]] = {
    "none": {},
    "one": {"metavar": "NAME"},
    "one or none": {"nargs": "?"},
    "any": {"nargs": "*", "help": "some"},
    "some": {"nargs": "+", "metavar": "NAME"},
    "a choice": {"choices": ("a", "b")},
    "a number": {"type": int},
}
OPTIONS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "a flag": (("-f", "--follow"), {"action": "store_true"}),
    "a value": (("--timeout",), {"default": "infinity", "metavar": "TIME"}),
    "a short one": (("-v", "--a-value"), {}),
    "a number": (("-n", "--lines"), {"type": int, "default": 100}),
    "a choice": (("--for",), {"dest": "goal", "default": "ready", "choices": ("ready", "a")}),
    "several": (("-c", "--code"), {"action": "append", "default": []}),
    "a must": (("-s", "--signal"), {"required": True}),
}
WORDS = st.sampled_from(
    [
        *("a", "b", "ready", "5", "", "a b", "*", "-", "--", "-1", "-x y", "--nonsense"),
        *("--json", "--js", "--json=1", "--socket", "--socket=s", "--soc", "-f", "--follow"),
        *("-ff", "-fv", "-va", "-v", "--a-value", "--timeout", "--time", "-n", "-n5", "--lines"),
        *("--for", "-c", "--code", "-s", "-sTERM", "--signal"),
    ]
)


def of(names: str, options: set[str]) -> Parser:
    """Make the parser of a verb that takes such names and options."""
    found = parser("verb", "Do it.")
    if how := NAMES[names]:
        found.add_argument("names", **how)
    for option in sorted(options):
        written, how = OPTIONS[option]
        found.add_argument(*written, **how)
    return found


def outcome(parse: Callable[[list[str]], Any], words: list[str]) -> object:
    try:
        return vars(parse(words))
    except UsageError as error:
        return error.message, error.hint


@settings(max_examples=1000)
@given(st.sampled_from([*NAMES]), st.sets(st.sampled_from([*OPTIONS])), st.lists(WORDS, max_size=5))
def test_arguments_are_read_as_argparse_reads_them(
    names: str, options: set[str], words: list[str]
) -> None:
    verb = of(names, options)
    assert outcome(verb.parse_args, words) == outcome(verb.thorough().parse_args, words)


@pytest.mark.parametrize("words", [["a"], ["a", "--json", "b", "c"]])
def test_names_of_several_kinds_are_told_apart(words: list[str]) -> None:
    verb = parser("run", "Do it.")
    verb.add_argument("first")
    verb.add_argument("others", nargs="*")
    assert verb.parse_args(words).first == "a"
    assert verb.parse_args(words).others == words[2:]


def test_nobody_shares_a_list_that_is_filled() -> None:
    """The default of one run is not what another was given."""
    verb = of("any", {"several"})
    assert verb.parse_args(["-c", "x"]).code == ["x"]
    assert verb.parse_args([]).code == []
