"""Renders help texts of ``kconnd-ctl`` from the grammar, wrapped to the terminal's width."""

from __future__ import annotations

import os
import sys
import textwrap

from kconnd.cli.command_line import LIST_COUNTS, REQUIRED_COUNTS, options_of
from kconnd.cli.grammar import VERBS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from kconnd.cli.command_line import Arguments
    from kconnd.cli.grammar import Operand, Option, Verb

MIN_COLUMNS, DEFAULT_COLUMNS, MAX_COLUMNS = 40, 80, 100
LABEL_COLUMNS = 18  # of the left column; a longer label gets its own line
OVERVIEW_HEAD = "kconnd-ctl: start, find and manage Jupyter kernels."
OVERVIEW_FOOT = """\
NAME can be several names, shell patterns ('lab*'), or NAME@INSTANCE for a further kernel of a \
profile.

kconnd-ctl help VERB describes a verb. Every verb accepts --json and --socket PATH."""
OVERVIEW_EXAMPLES = (
    "kconnd-ctl start mykernel",
    "kconnd-ctl info mykernel --json",
    "kconnd-ctl stop 'exp*'",
)
EXIT_CODES = (
    ("0", "success"),
    ("1", "failure"),
    ("2", "usage error"),
    ("3", "the kernel is not running"),
    ("4", "no such kernel"),
    ("5", "refused"),
    ("6", "no daemon answers"),
    ("130", "interrupted by Ctrl-C"),
)
EXIT_CODES_NOTE = "For several names it is the exit code of the first failure."


def show_help(arguments: Arguments) -> int:
    """Print the help of a verb, or the overview."""
    columns = terminal_columns(os.environ)
    if arguments.topic is None:
        print(overview(columns))
        return 0
    if arguments.topic not in VERBS:
        from kconnd.cli.suggestions import unknown_verb  # noqa: PLC0415  # for this error only

        raise unknown_verb(arguments.topic)
    print(verb_help(VERBS[arguments.topic], columns))
    return 0


def terminal_columns(env: Mapping[str, str]) -> int:
    """Return the width for help texts: the terminal's width, or else COLUMNS, or else 80."""
    try:
        columns = os.get_terminal_size(sys.__stdout__.fileno() if sys.__stdout__ else 1).columns
    except (OSError, ValueError):
        columns = 0
    if not columns:
        text = env.get("COLUMNS", "")
        columns = int(text) if text.isdecimal() and len(text) < len("10000") else 0
    return min(max(columns or DEFAULT_COLUMNS, MIN_COLUMNS), MAX_COLUMNS)


def overview(columns: int) -> str:
    """Render the list of all verbs."""
    groups: dict[str, list[tuple[str, str]]] = {}
    for verb in VERBS.values():
        groups.setdefault(verb.group, []).append((_short_usage(verb), verb.summary))
    sections = [
        *_wrap(OVERVIEW_HEAD, columns),
        *(line for group, rows in groups.items() for line in ("", group, *_rows(rows, columns))),
        "",
        *_wrap(OVERVIEW_FOOT, columns),
        *("", "Examples", *(f"  {example}" for example in OVERVIEW_EXAMPLES)),
        *("", "Exit codes", *_rows(EXIT_CODES, columns), *_wrap(EXIT_CODES_NOTE, columns, "  ")),
    ]
    return "\n".join(sections)


def verb_help(verb: Verb, columns: int) -> str:
    """Render the help of one verb."""
    operands = [(operand.metavar, operand.summary) for operand in verb.operands]
    options = [(_option_label(option), option.summary) for option in options_of(verb)]
    sections = [
        *_usage(verb, columns),
        "",
        *_wrap(verb.description, columns),
        *_section("arguments", _rows(operands, columns)),
        *_section("options", _rows(options, columns)),
        *_section("example", [f"  {verb.example}"] if verb.example else []),
        *_section("with --json", _wrap(verb.json_reply, columns, "  ")),
    ]
    return "\n".join(sections)


def _section(title: str, lines: Iterable[str]) -> list[str]:
    lines = list(lines)
    return ["", f"{title}:", *lines] if lines else []


def _usage(verb: Verb, columns: int) -> list[str]:
    head = f"usage: kconnd-ctl {verb.name} "
    words = [_option_usage(option) for option in options_of(verb)]
    words += [_operand_usage(operand) for operand in verb.operands]
    words += ["[-- WORD ...]"] if verb.passes_words_to else []
    words += ["[ARGUMENT ...]"] if verb.passes_words_after else []
    # A part such as "[--socket PATH]" must not be broken at its space.
    text = " ".join(word.replace(" ", "\0") for word in words)
    lines = textwrap.wrap(
        text,
        columns,
        initial_indent=head,
        subsequent_indent=" " * min(len(head), 12),
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.replace("\0", " ") for line in lines]


def _option_usage(option: Option) -> str:
    label = f"{option.spellings[0]} {_value_label(option)}".rstrip()
    return label if option.is_required else f"[{label}]"


def _operand_usage(operand: Operand) -> str:
    label = "|".join(operand.choices) or operand.metavar
    if operand.count in LIST_COUNTS:
        label = f"{label} ..."
    return label if operand.count in REQUIRED_COUNTS else f"[{label}]"


def _option_label(option: Option) -> str:
    return f"{', '.join(option.spellings)} {_value_label(option)}".rstrip()


def _value_label(option: Option) -> str:
    return option.metavar or "|".join(option.choices)


def _short_usage(verb: Verb) -> str:
    """Return the verb's name followed by its operands and required options."""
    operands = [
        operand.metavar if operand.count in REQUIRED_COUNTS else f"[{operand.metavar}]"
        for operand in verb.operands
    ]
    options = [_option_usage(option) for option in verb.options if option.is_required]
    return " ".join([verb.name, *operands, *options])


def _rows(rows: Iterable[tuple[str, str]], columns: int) -> Iterator[str]:
    """Lay out labels and summaries in two columns."""
    indent = " " * (LABEL_COLUMNS + 4)
    for label, summary in rows:
        lines = _wrap(summary, columns, indent)
        if len(label) <= LABEL_COLUMNS:
            lines[0] = f"  {label:{LABEL_COLUMNS}}  {lines[0].lstrip()}"
            yield from lines
        else:
            yield f"  {label}"
            yield from lines


def _wrap(text: str, columns: int, indent: str = "") -> list[str]:
    """Wrap paragraphs, which are separated by blank lines."""
    lines: list[str] = []
    for paragraph in text.split("\n\n") if text else ():
        lines += [""] if lines else []
        lines += textwrap.wrap(
            paragraph,
            columns,
            initial_indent=indent,
            subsequent_indent=indent,
            break_long_words=False,
            break_on_hyphens=False,
        )
    return lines
