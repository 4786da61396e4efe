"""Builds the command that runs a kernel from its owner's login shell.

The shell reads the start-up files of a login, runs the lines of ``setup`` and becomes the kernel. A
line that fails does not stop the start, because the scripts of conda and of environment modules
return a failure for harmless reasons. The shell reports the failure in the kernel's log, in a form
that `find_setup_failures` recognises. The script differs by family of shells:

- POSIX shells (sh, bash, dash, ksh, zsh …) collect lines until the lines are a whole command, such
  as a loop or a here-document, and run the command by ``eval``. The lines are a whole command if
  the shell accepts them as the body of a function. A trap reports a line that ends the shell.
- csh and tcsh accept ``-l`` only without other options, so the script reads the login files itself.
  These shells run a loop in a ``-c`` script only once, so `refuse_setup` refuses loops.
- fish has its own quoting and block keywords.

In csh and fish, the status of a line is tested only outside of blocks. The arguments of the kernel
are quoted in the script. They are not passed as positional parameters, because a sourced script
would take them for its own: ``source activate`` would activate an environment of their name.

Functions are pure. `_SHELLS` lists the known shells. Other shells count as POSIX shells.
"""

import re
import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum

from kconnd.core.launch.plan import PARENT_PID

MAX_SHOWN_CHARS = 300  # of a line of setup, and of a report about it
REPORT = re.compile(
    r"^\[kconnd: (lines? [\d to]+ of setup (?:failed|ended the shell), [^\n]*)\]$", re.MULTILINE
)


class Family(Enum):
    """A kind of shell: the syntax of its scripts, or why it cannot run a kernel."""

    POSIX = "sh"
    CSH = "csh"
    FISH = "fish"
    NO_COMMANDS = "runs no commands"
    RESTRICTED = "is restricted to the commands that it allows"
    UNSUPPORTED = "has a syntax that kconnd does not support"


_SHELLS = {
    **dict.fromkeys(("csh", "tcsh", "bsd-csh"), Family.CSH),
    "fish": Family.FISH,
    **dict.fromkeys(("nologin", "false", "true", "sync", "halt", "shutdown"), Family.NO_COMMANDS),
    **dict.fromkeys(
        ("rbash", "rksh", "rksh93", "rzsh", "rssh", "git-shell", "scponly", "lshell"),
        Family.RESTRICTED,
    ),
    **dict.fromkeys(
        ("nu", "xonsh", "elvish", "pwsh", "rc", "es", "scsh", "ion", "murex"), Family.UNSUPPORTED
    ),
}


def family_of(shell: str) -> Family:
    """Return the family of a shell, by the name of its program."""
    return _SHELLS.get(shell.rpartition("/")[2], Family.POSIX)


def refuse_shell(shell: str) -> str:
    """Return why a kernel cannot be started from a login shell; ``""`` if it can be."""
    family = family_of(shell)
    is_usable = family in {Family.POSIX, Family.CSH, Family.FISH}
    return "" if is_usable else f"the login shell {shell} {family.value}"


def refuse_setup(shell: str, setup: Iterable[str]) -> str:
    """Return why a login shell cannot run the lines of ``setup``; ``""`` if it can run them."""
    if family_of(shell) is not Family.CSH:
        return ""
    loop = next((line for line in setup if re.match(r"\s*(foreach|while|goto)\b", line)), "")
    return f"the login shell {shell} runs a loop only from a file: {loop.strip()!r}" if loop else ""


def through_shell(argv: tuple[str, ...], shell: str, setup: tuple[str, ...]) -> tuple[str, ...]:
    """Wrap a command in a login shell that runs the lines of ``setup`` and becomes the command."""
    if family_of(shell) is Family.CSH:
        return (shell, "-c", _csh_script(argv, setup), "kconnd")
    if family_of(shell) is Family.FISH:
        return (shell, "-l", "-c", _fish_script(argv, setup), "kconnd")
    return (shell, "-l", "-c", _posix_script(argv, setup), "kconnd")


def find_setup_failures(output: str) -> tuple[str, ...]:
    """Find the failures of ``setup`` in a kernel's output: ``line 2 of setup failed, …``."""
    return tuple(dict.fromkeys(map(_shown, REPORT.findall(output))))


def _quote_all(quote: Callable[[str], str], words: Iterable[str]) -> str:
    return " ".join(map(quote, words))


# --- POSIX shells

# A line of setup can call `exit`, and a shell can end at a syntax error: the trap reports both.
# Before each command, ``$?`` is restored, so that a line can test the status of the previous line.
_POSIX_HEAD = """\
kconnd_tell() {
[ "$1" = "$2" ] && set -- "line $1" "$3" "$4" || set -- "lines $1 to $2" "$3" "$4"
printf '[kconnd: %s of setup %s, exit status %s: %s]\\n' "$1" "$2" "$3" "$kconnd_text" >&2
}
kconnd_whole() { (
[ -z "${ZSH_VERSION-}" ] || unsetopt shortloops
eval "kconnd_unused() ( :
$kconnd_lines
)") 2>/dev/null; }
kconnd_restore() { return "$kconnd_status"; }
kconnd_first=0 kconnd_lines= kconnd_status=0
trap 'kconnd_tell "$kconnd_first" "$kconnd_last" "ended the shell" "$?"' EXIT
"""
_POSIX_LINE = """\
kconnd_last={number}
if [ "$kconnd_first" = 0 ]; then
kconnd_first={number} kconnd_text={text} kconnd_lines={line}
else
kconnd_lines="$kconnd_lines
"{line}
fi
if {condition}; then
kconnd_restore
eval "$kconnd_lines"
kconnd_status=$?
[ "$kconnd_status" = 0 ] || kconnd_tell "$kconnd_first" {number} failed "$kconnd_status"
kconnd_first=0
fi
"""
_POSIX_END = """\
trap - EXIT
unset kconnd_first kconnd_last kconnd_lines kconnd_status kconnd_text
"""


def _posix_script(argv: tuple[str, ...], setup: tuple[str, ...]) -> str:
    command = f"unset {PARENT_PID}\nexec {_quote_all(shlex.quote, argv)}"
    if not setup:
        return command
    lines = (
        _POSIX_LINE.format(
            number=number,
            text=shlex.quote(_shown(line)),
            line=shlex.quote(line),
            condition=_condition(line, is_last=number == len(setup)),
        )
        for number, line in enumerate(setup, start=1)
    )
    return "".join((_POSIX_HEAD, *lines, _POSIX_END, command))


def _condition(line: str, *, is_last: bool) -> str:
    """Return the shell command that succeeds if no command continues after a line."""
    if is_last:
        return ":"
    backslashes = len(line) - len(line.rstrip("\\"))
    return "false" if backslashes % 2 else "kconnd_whole"


def _shown(line: str) -> str:
    """Return a text for a message: on one line, without control characters, and not too long."""
    text = "".join(char if char.isprintable() else " " for char in line.strip())
    return text if len(text) <= MAX_SHOWN_CHARS else f"{text[:MAX_SHOWN_CHARS]}…"


# --- csh and fish


@dataclass(frozen=True)
class _Blocks:
    """The words by which blocks of commands begin and end."""

    begin: re.Pattern[str]
    end: re.Pattern[str]


_CSH_BLOCKS = _Blocks(
    re.compile(r"^\s*switch\b|^\s*if\b.*\bthen\s*$"), re.compile(r"^\s*(?:endsw|endif)\b")
)
_FISH_BLOCKS = _Blocks(
    re.compile(r"(?:^|[;|&]|\band|\bor|\bnot)\s*(?:if|for|while|switch|begin|function)\b"),
    re.compile(r"(?:^|;)\s*end\b"),
)


def _is_open_after(blocks: _Blocks, setup: tuple[str, ...]) -> list[bool]:
    """Return, for each line, whether a block or a command continues on the next line."""
    depth, is_open = 0, []
    for line in setup:
        depth += len(blocks.begin.findall(line)) - len(blocks.end.findall(line))
        is_open.append(depth > 0 or line.rstrip().endswith(("\\", "|", "&&", "||")))
    return is_open


def _report_of(number: int, line: str, status: str) -> str:
    """Return a POSIX script that reports a failed line; ``status`` is a positional parameter."""
    text = shlex.quote(_shown(line))
    head = f"[kconnd: line {number} of setup failed, exit status %s: %s]\\n"
    return f"printf {shlex.quote(head)} {status} {text} >&2"


def _csh_quote(word: str) -> str:
    escaped = word.replace("'", r"'\''").replace("!", r"\!").replace("\n", "\\\n")
    return f"'{escaped}'"


def _csh_script(argv: tuple[str, ...], setup: tuple[str, ...]) -> str:
    """Build a script for csh.

    ``echo`` and redirections to stderr differ from other shells, so sh(1) reports failures.
    """
    script = [
        *(f"if (-r {file}) source {file}" for file in ("/etc/csh.login", "/etc/.login", "~/.login"))
    ]
    is_open = _is_open_after(_CSH_BLOCKS, setup)
    for number, (line, continues) in enumerate(zip(setup, is_open, strict=True), start=1):
        script.append(line)
        if not continues:
            report = _csh_quote(_report_of(number, line, '"$0"'))
            script.append("set kconnd_status = $status")
            script.append(f"if ($kconnd_status != 0) /bin/sh -c {report} $kconnd_status")
    script += [f"unsetenv {PARENT_PID}", f"exec {_quote_all(_csh_quote, argv)}"]
    return "\n".join(script)


def _fish_quote(word: str) -> str:
    escaped = word.replace("\\", "\\\\").replace("'", r"\'")
    return f"'{escaped}'"


def _fish_script(argv: tuple[str, ...], setup: tuple[str, ...]) -> str:
    script = []
    is_open = _is_open_after(_FISH_BLOCKS, setup)
    for number, (line, continues) in enumerate(zip(setup, is_open, strict=True), start=1):
        script.append(line)
        # The status of a block can be that of its condition, because `set` keeps the status.
        if not continues and not _FISH_BLOCKS.end.match(line):
            script.append("set -l kconnd_status $status")
            report = _fish_quote(_report_of(number, line, '"$0"'))
            script.append(f"test $kconnd_status = 0; or /bin/sh -c {report} $kconnd_status")
    # set -e removes a variable of one scope, and the variable can be global and universal.
    command = _quote_all(_fish_quote, ("/usr/bin/env", "-u", PARENT_PID, *argv))
    return "\n".join((*script, f"exec {command}"))
