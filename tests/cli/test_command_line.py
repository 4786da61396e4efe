"""The parser of command lines: as argparse would parse them, whatever the grammar can express."""

import argparse
from collections.abc import Callable
from typing import Any, NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kconnd.cli.command_line import Arguments, options_of, parse_arguments, split_at_verb
from kconnd.cli.grammar import VERBS, Operand, Option, Verb
from kconnd.errors import UsageError

OPERANDS: dict[str, tuple[Operand, ...]] = {
    "none": (),
    "one": (Operand("name", "NAME", "a name"),),
    "one or none": (Operand("name", "NAME", "a name", "?"),),
    "any": (Operand("names", "NAME", "names", "*"),),
    "some": (Operand("names", "NAME", "names", "+"),),
    "a choice": (Operand("letter", "LETTER", "a letter", choices=("a", "b")),),
    "one and any": (Operand("first", "A", "a name"), Operand("more", "B", "names", "*")),
}
OPTIONS = {
    "a flag": Option("-f", "--follow", summary="a flag"),
    "a value": Option("--timeout", metavar="TIME", default="infinity", summary="a value"),
    "a short one": Option("-v", "--a-value", metavar="V", summary="a value"),
    "a number": Option("-n", "--lines", metavar="N", is_number=True, default=9, summary="a number"),
    "a choice": Option(
        "--for", name="goal", default="ready", choices=("ready", "a"), summary="a choice"
    ),
    "several": Option("-c", "--code", metavar="C", is_repeatable=True, summary="several"),
    "a must": Option("-s", "--signal", metavar="SIG", is_required=True, summary="required"),
}
WORDS = st.sampled_from(
    [
        *("a", "b", "ready", "5", "", "a b", "*", "-", "--", "-1", "-x y", "--nonsense"),
        *("--json", "--js", "--json=1", "--socket", "--socket=s", "--soc", "-f", "--follow"),
        *("-ff", "-fv", "-va", "-v", "--a-value", "--timeout", "--time", "-n", "-n5", "--lines"),
        *("--for", "-c", "--code", "-s", "-sTERM", "--signal"),
    ]
)
OPTION_SETS = st.sets(st.sampled_from([*OPTIONS]))


def make_verb(operands: str, options: set[str]) -> Verb:
    return Verb(
        "verb",
        "Look",
        "module:function",
        "A verb.",
        operands=OPERANDS[operands],
        options=tuple(OPTIONS[name] for name in sorted(options)),
    )


class ReferenceParser(argparse.ArgumentParser):
    """argparse's parser for the grammar of a verb."""

    def __init__(self, verb: Verb) -> None:
        super().__init__(add_help=False)
        for option in options_of(verb):
            details: dict[str, Any] = {"dest": option.name, "default": option.default}
            if not option.takes_value:
                details["action"] = "store_true"
            elif option.is_repeatable:
                details |= {"action": "append", "default": []}
            else:
                details |= {
                    "choices": option.choices or None,
                    "required": option.is_required,
                    "type": int if option.is_number else str,
                }
            self.add_argument(*option.spellings, **details)
        for operand in verb.operands:
            more: dict[str, Any] = {"nargs": operand.count} if operand.count else {}
            self.add_argument(operand.name, choices=operand.choices or None, **more)

    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


def outcome(parse: Callable[[], Any]) -> dict[str, Any] | None:
    try:
        attributes = vars(parse())
    except UsageError:
        return None
    return {name: value for name, value in attributes.items() if name != "passed_words"}


def has_quirk_of_argparse(words: list[str]) -> bool:
    """Tell command lines that argparse parses differently in different versions of Python."""
    return "--" in words


@given(st.sampled_from([*OPERANDS]), OPTION_SETS, st.lists(WORDS, max_size=5))
def test_arguments_are_parsed_as_argparse_parses_them(
    operands: str, options: set[str], words: list[str]
) -> None:
    if has_quirk_of_argparse(words):
        return
    verb = make_verb(operands, options)
    reference = ReferenceParser(verb)
    expected = outcome(lambda: reference.parse_intermixed_args(words))
    assert outcome(lambda: parse_arguments(verb, words)) == expected


# --- whatever the grammar can express parses back, in every spelling

PLAIN = st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF), max_size=6).filter(
    lambda text: not text.startswith("-")
)


def values_of(argument: Option | Operand) -> st.SearchStrategy[Any]:
    if isinstance(argument, Option) and not argument.takes_value:
        return st.sampled_from([True])
    if argument.choices:
        return st.sampled_from(argument.choices)
    if isinstance(argument, Option) and argument.is_number:
        return st.integers(0, 10**6)
    return PLAIN


@st.composite
def command_lines(draw: st.DrawFn) -> tuple[Verb, dict[str, Any], list[str], list[str]]:
    """Draw a verb, its values, and two spellings of them: with plain words, and in any way."""
    verb = draw(st.sampled_from([*VERBS.values()]))
    expected = vars(parse_defaults(verb))
    pieces: list[tuple[list[str], list[str]]] = []
    for option in options_of(verb):
        if option.name == "help" or not (option.is_required or draw(st.booleans())):
            continue
        if any(set(option.spellings) & set(group[1:]) for group in verb.exclusive):
            continue
        value = draw(values_of(option))
        expected[option.name] = [value] if option.is_repeatable else value
        pieces.append(spellings_of(draw, option, value))
    operands: list[str] = []
    for operand in verb.operands:
        least = 1 if operand.count in {"", "+"} else 0
        most = 3 if operand.count in {"*", "+"} else 1
        drawn = draw(st.lists(values_of(operand), min_size=least, max_size=most))
        expected[operand.name] = drawn if most > 1 else (drawn or [None])[0]
        operands += drawn
    plain = [word for piece, _ in pieces for word in piece] + operands
    options, places = [piece for _, piece in pieces], [["\0"] for _ in operands]
    # Options cannot follow an operand after which all words are passed on.
    passes = bool(verb.passes_words_after)
    mixed = [*options, *places] if passes else draw(st.permutations([*options, *places]))
    in_order = iter(operands)
    free = [next(in_order) if word == "\0" else word for piece in mixed for word in piece]
    return verb, expected, plain, free


def parse_defaults(verb: Verb) -> Arguments:
    """Parse a command line of a verb without its required arguments."""
    bare = Verb(verb.name, verb.group, verb.handler, verb.summary)
    bare.options = tuple(option for option in verb.options if not option.is_required)
    return parse_arguments(bare, [])


def spellings_of(draw: st.DrawFn, option: Option, value: Any) -> tuple[list[str], list[str]]:
    """Spell an option with its value in separate words, and in another allowed way."""
    spelling = draw(st.sampled_from(option.spellings))
    if not option.takes_value:
        return [option.spellings[0]], [spelling]
    joined = f"{spelling}={value}" if spelling.startswith("--") else f"{spelling}{value}"
    ways = [[spelling, str(value)], [joined]] if value != "" else [[spelling, ""]]
    return [option.spellings[0], str(value)], draw(st.sampled_from(ways))


@given(command_lines())
def test_what_the_grammar_can_express_parses_back(
    drawn: tuple[Verb, dict[str, Any], list[str], list[str]],
) -> None:
    verb, expected, plain, free = drawn
    assert vars(parse_arguments(verb, plain)) == expected
    if not any(word.startswith("=") for word in plain):  # argparse drops it in -c=CODE
        assert vars(parse_arguments(verb, free)) == expected


@pytest.mark.parametrize("words", [["a"], ["a", "--json", "b", "c"], ["--json", "--", "a", "-b"]])
def test_operands_are_assigned_in_order(words: list[str]) -> None:
    arguments = parse_arguments(make_verb("one and any", set()), words)
    assert arguments.first == "a"
    assert arguments.more == [word for word in words if word in {"b", "c", "-b"}]


def test_words_after_two_dashes_are_passed_to_the_program() -> None:
    arguments = parse_arguments(VERBS["console"], ["a", "--json", "--", "--simple-prompt", "--"])
    assert arguments.passed_words == ["--simple-prompt", "--"]
    assert (arguments.name, arguments.json) == ("a", True)


def test_words_after_a_file_are_those_of_the_script() -> None:
    words = ["a", "-c", "1", "--", "script.py", "--json", "--", "-h", "b"]
    arguments = parse_arguments(VERBS["run"], words)
    assert (arguments.name, arguments.code, arguments.file) == ("a", ["1"], "script.py")
    assert arguments.passed_words == ["--json", "--", "-h", "b"]
    assert not arguments.json
    assert parse_arguments(VERBS["run"], ["a", "-h", "script.py"]).help


def test_help_is_shown_without_the_required_arguments() -> None:
    assert parse_arguments(VERBS["signal"], ["-h"]).help


def test_no_two_command_lines_share_a_list() -> None:
    verb = make_verb("any", {"several"})
    assert parse_arguments(verb, ["-c", "x"]).code == ["x"]
    assert parse_arguments(verb, []).code == []


@pytest.mark.parametrize(
    ("words", "options", "rest"),
    [
        ([], [], []),
        (["info", "--json"], [], ["info", "--json"]),
        (["--socket", "S", "--json", "info", "a"], ["--socket", "S", "--json"], ["info", "a"]),
        (["--socket=S", "info"], ["--socket=S"], ["info"]),
        (["--socket"], ["--socket"], []),
    ],
)
def test_options_can_stand_before_the_verb(
    words: list[str], options: list[str], rest: list[str]
) -> None:
    assert split_at_verb(words) == (options, rest)


@pytest.mark.parametrize(
    ("verb", "words", "message", "hint"),
    [
        ("stop", ["--no"], "stop: --no is ambiguous: --no-wait or --now", ""),
        ("wait", ["--for", "x", "a"], "wait: --for: 'x' is not one of ready, stopped", ""),
        ("wait", ["a", "--for"], "wait: --for needs a value", "allowed: ready, stopped; "),
        ("info", ["a", "--json=1"], "info: --json takes no value, and got '1'", ""),
        ("connection", ["a", "b"], "connection: 'b' is one argument too many", "allowed: NAME; "),
        (
            "kernelspec",
            ["list", "--prefix=x", "--user"],
            "kernelspec: --user and --prefix cannot be used together",
            "",
        ),
        (
            "kernelspec",
            ["lst"],
            "kernelspec: ACTION: 'lst' is not one of install, remove, list, probe",
            "",
        ),
        (
            "logs",
            ["a", "--folow"],
            "logs: there is no option --folow",
            (
                "did you mean --follow? allowed: -h/--help, --json, --socket PATH, "
                "-n/--lines N, -f/--follow, --raw; "
            ),
        ),
    ],
)
def test_an_error_names_the_verb_the_option_and_what_is_allowed(
    verb: str, words: list[str], message: str, hint: str
) -> None:
    with pytest.raises(UsageError) as caught:
        parse_arguments(VERBS[verb], words)
    assert caught.value.message == message
    assert caught.value.hint == f"{hint}kconnd-ctl help {verb} describes it"
