"""Parses the command line of a verb by the verb's entry in `kconnd.cli.grammar`.

Options and operands may be mixed. An option is written as ``--lines 5``, ``--lines=5`` or ``-n5``.
Options with one letter may be joined (``-fn5``). A long option may be shortened to an unambiguous
beginning (``--li 5``). After ``--``, every word is an operand or, for a verb that starts a program,
a word for this program. argparse has the same conventions, but importing argparse takes six
milliseconds.
"""

from __future__ import annotations

from kconnd.cli.grammar import COMMON_OPTIONS
from kconnd.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from kconnd.cli.grammar import Operand, Option, Verb

REQUIRED_COUNTS = frozenset({"", "+"})
LIST_COUNTS = frozenset("*+")


class Arguments:
    """The parsed arguments of a verb, as attributes with the names in the grammar."""

    def __init__(self, values: dict[str, Any]) -> None:
        vars(self).update(values)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...
        def __setattr__(self, name: str, value: Any) -> None: ...


def options_of(verb: Verb) -> tuple[Option, ...]:
    """List the options that a verb accepts."""
    return (*COMMON_OPTIONS, *verb.options)


def split_at_verb(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split a command line in two: the options before the verb, and all words from the verb on."""
    takes_value = {
        spelling for option in COMMON_OPTIONS if option.takes_value for spelling in option.spellings
    }
    index = 0
    while index < len(words) and words[index].startswith("-"):
        index += 2 if words[index] in takes_value else 1
    return list(words[:index]), list(words[index:])


def parse_arguments(verb: Verb, words: Sequence[str]) -> Arguments:
    """Parse the operands and options of a verb; ``words`` does not contain the verb itself.

    Returns
    -------
    Arguments
        An object with an attribute for each operand and option. For a verb that passes words to a
        program, ``passed_words`` contains the words after ``--`` or after the operand that names
        the program. If ``help`` is true, the other arguments were not checked.

    Raises
    ------
    UsageError
        If the words do not fit the grammar. The message names the verb and the fault; the message
        or the hint says what is allowed.
    """
    return _ArgumentParser(verb, words).parse()


def usage_error(verb: Verb, message: str, hint: str = "") -> UsageError:
    """Create the error for a command line that does not fit the grammar of a verb."""
    more = f"kconnd-ctl help {verb.name} describes it"
    return UsageError(f"{verb.name}: {message}", hint=f"{hint}; {more}" if hint else more)


class _ArgumentParser:
    """Parses one command line."""

    def __init__(self, verb: Verb, words: Sequence[str]) -> None:
        self._verb = verb
        self._words = iter(words)
        self._options = options_of(verb)
        self._by_spelling = {
            spelling: option for option in self._options for spelling in option.spellings
        }
        self._values: dict[str, Any] = {
            option.name: [] if option.is_repeatable else option.default for option in self._options
        }
        self._present: set[str] = set()
        self._operands: list[str] = []

    def parse(self) -> Arguments:
        passed_words: list[str] = []
        options_ended = False
        for word in self._words:
            if self._passes_rest() or (options_ended and self._verb.passes_words_to):
                passed_words = [word, *self._words]
            elif word == "--" and not options_ended:
                options_ended = True
            elif not options_ended and self._is_option(word):
                self._parse_option(word)
            else:
                self._operands.append(word)
            if self._values["help"]:
                return Arguments(self._values)
        self._assign_operands()
        self._check_options()
        return Arguments({**self._values, "passed_words": passed_words})

    def _passes_rest(self) -> bool:
        """Return whether the last operand names a program, which gets all further words."""
        metavars = [operand.metavar for operand in self._verb.operands]
        last = self._verb.passes_words_after
        return bool(last) and len(self._operands) > metavars.index(last)

    def _is_option(self, word: str) -> bool:
        """Return whether a word is an option; ``-``, ``-1`` and ``-x + y`` are not options."""
        if not word.startswith("-") or word == "-":
            return False
        if word in self._by_spelling or "=" in word or word[:2] in self._by_spelling:
            return True
        return " " not in word and not _is_number(word)

    def _parse_option(self, word: str) -> None:
        if word.startswith("--"):
            name, equals, text = word.partition("=")
            self._store(self._find_long(name), name, text if equals else None)
            return
        # In a group such as -fn5, a flag is followed by further options.
        letters = word[1:]
        while letters:
            spelling, letters = f"-{letters[0]}", letters[1:]
            option = self._by_spelling.get(spelling)
            if option is None:
                raise self._unknown_option(word)
            if option.takes_value:
                self._store(option, spelling, letters.removeprefix("=") if letters else None)
                return
            self._store(option, spelling, None)

    def _find_long(self, name: str) -> Option:
        """Find a long option by its name or by an unambiguous prefix of its name."""
        if name in self._by_spelling:
            return self._by_spelling[name]
        matches = [spelling for spelling in self._by_spelling if spelling.startswith(name)]
        if not matches:
            raise self._unknown_option(name)
        if len(matches) > 1:
            raise usage_error(self._verb, f"{name} is ambiguous: {' or '.join(matches)}")
        return self._by_spelling[matches[0]]

    def _store(self, option: Option, spelling: str, text: str | None) -> None:
        self._present.update(option.spellings)
        if not option.takes_value:
            if text is not None:
                raise usage_error(self._verb, f"{spelling} takes no value, and got {text!r}")
            self._values[option.name] = True
            return
        if text is None:
            text = next(self._words, None)
            if text is None or self._is_option(text):
                raise usage_error(self._verb, f"{spelling} needs a value", _allowed_values(option))
        value = self._convert(option, spelling, text)
        if option.is_repeatable:
            self._values[option.name].append(value)
        else:
            self._values[option.name] = value

    def _convert(self, option: Option, spelling: str, text: str) -> Any:
        self._check_choice(option, spelling, text)
        if not option.is_number:
            return text
        try:
            return int(text)
        except ValueError:
            raise usage_error(self._verb, f"{spelling}: {text!r} is not a whole number") from None

    def _check_choice(self, argument: Option | Operand, label: str, text: str) -> None:
        if argument.choices and text not in argument.choices:
            raise usage_error(
                self._verb, f"{label}: {text!r} is not one of {', '.join(argument.choices)}"
            )

    def _assign_operands(self) -> None:
        remaining = self._operands
        for operand in self._verb.operands:
            if operand.count in REQUIRED_COUNTS and not remaining:
                allowed = f"{operand.metavar} is {operand.summary}"
                raise usage_error(self._verb, f"{operand.metavar} is missing", allowed)
            if operand.count in LIST_COUNTS:
                self._values[operand.name], remaining = remaining, []
            else:
                text = remaining[0] if remaining else None
                if text is not None:
                    self._check_choice(operand, operand.metavar, text)
                self._values[operand.name], remaining = text, remaining[1:]
        if remaining:
            metavars = " ".join(operand.metavar for operand in self._verb.operands)
            raise usage_error(
                self._verb,
                f"{remaining[0]!r} is one argument too many",
                f"allowed: {metavars}" if metavars else "it takes no names",
            )

    def _check_options(self) -> None:
        for option in self._options:
            if option.is_required and not self._present.intersection(option.spellings):
                label = f"{'/'.join(option.spellings)} {option.metavar}"
                raise usage_error(self._verb, f"{label} is missing", _allowed_values(option))
        for spellings in self._verb.exclusive:
            if self._present.issuperset(spellings):
                raise usage_error(self._verb, f"{' and '.join(spellings)} cannot be used together")

    def _unknown_option(self, spelling: str) -> UsageError:
        from kconnd.cli.suggestions import suggest_option  # noqa: PLC0415  # for this error only

        return usage_error(
            self._verb,
            f"there is no option {spelling}",
            suggest_option(spelling, self._options),
        )


def _allowed_values(option: Option) -> str:
    if option.choices:
        return f"allowed: {', '.join(option.choices)}"
    return f"{option.metavar} is {option.summary}"


def _is_number(word: str) -> bool:
    return word.lstrip("-").replace(".", "", 1).isdecimal()
