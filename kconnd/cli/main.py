"""``kconnd-ctl``: finds the verb, and imports and runs that one alone.

Rules. Look-ups are typed all day, so nothing is imported before it is needed. Errors go to
stderr as one sentence and one hint, and the exit code is the error's own.
"""

from __future__ import annotations

import gc
import os
import sys

from kconnd.errors import KconndError, UsageError

TYPE_CHECKING = False  # typing's own would cost a look-up five milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable

HELP = """\
kconnd-ctl: start, find and look after Jupyter kernels.

Look
  list                 all kernels: state, memory, idle time
  info NAME            all about one; --json for programs
  why NAME             the last decisions about it, and their reasons
  logs NAME            its output; -f to follow
  events               what happened to kernels; -f to follow
  wait NAME            until it is ready, or stopped

Change
  start NAME           start it, and wait until it answers
  stop NAME            end it, and wait until every process of it is gone
  restart NAME         a fresh process with the same name, ports and key
  interrupt NAME       interrupt what it is running
  signal NAME -s SIG   send it a signal

Attach
  console NAME         a terminal console on it
  connection NAME      its connection file, for any Jupyter client

Profiles and help
  check [PATH]         find faults in profiles, without a daemon
  schema               the JSON Schema of profiles, for editors
  reload               read the profiles again; no live kernel is touched
  profiles             the profiles that the daemon has read
  health               the daemon: version, process, folders
  doctor               what on this machine will bite, and the cure

NAME may be several names, shell patterns ('lab*'), or NAME@INSTANCE for a further kernel of
a profile. kconnd-ctl VERB --help tells more; --json and --socket PATH go with every verb.

Examples
  kconnd-ctl start mykernel
  kconnd-ctl info mykernel --json
  kconnd-ctl stop 'exp*'

Exit codes
  0 done   1 failed   2 usage   3 not running   4 no such kernel   5 refused
  6 no daemon answers   130 interrupted
"""

VERBS = {
    "list": "look:list_",
    "info": "look:info",
    "why": "look:why",
    "logs": "look:logs",
    "events": "look:events",
    "wait": "look:wait",
    "connection": "look:connection",
    "profiles": "look:profiles",
    "health": "look:health",
    "start": "act:start",
    "stop": "act:stop",
    "restart": "act:restart",
    "interrupt": "act:interrupt",
    "signal": "act:signal",
    "reload": "act:reload",
    "console": "console:console",
    "check": "check:check",
    "schema": "check:schema",
    "doctor": "doctor:doctor",
}


def main(arguments: list[str] | None = None) -> int:
    """Run ``kconnd-ctl``; see ``kconnd-ctl --help``.

    Returns
    -------
    int
        The exit code: those of `kconnd.errors`, and 130 where Ctrl-C ended it.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        return _run(given)
    except KconndError as error:
        tell(error)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # as in `kconnd-ctl logs NAME | head`
        return 0


def run() -> None:
    """Run ``kconnd-ctl`` as a program of its own.

    It ends without Python's tidying up, which would take two milliseconds of a look-up (all
    that was written is flushed before), and looks for no garbage while it imports (one more).
    """
    gc.disable()
    try:
        code = main()
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        code = 0
    except SystemExit as ending:  # argparse ends so
        code = ending.code if isinstance(ending.code, int) else 1
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def tell(error: KconndError) -> None:
    """Say what went wrong: one sentence, what the kernel itself said, one hint."""
    print(f"kconnd-ctl: {error.message}", file=sys.stderr)
    for line in error.output.splitlines():
        print(f"  | {line}", file=sys.stderr)
    if error.hint:
        print(f"  {error.hint}", file=sys.stderr)


def _run(given: list[str]) -> int:
    before: list[str] = []
    while given and given[0].startswith("-"):
        option = given.pop(0)
        if option in {"-h", "--help"}:
            print(HELP, end="")
            return 0
        if option == "--version":
            from kconnd import __version__  # noqa: PLC0415  # only for this

            print(f"kconnd-ctl {__version__}")
            return 0
        before.append(option)
        if option == "--socket" and given:
            before.append(given.pop(0))
    if not given:
        print(HELP, end="", file=sys.stderr)
        return UsageError.exit_code
    return _verb(given[0])([*given[1:], *before])


def _verb(word: str) -> Callable[[list[str]], int]:
    if word not in VERBS:
        import difflib  # noqa: PLC0415  # only for this

        near = difflib.get_close_matches(word, VERBS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "kconnd-ctl --help lists the verbs"
        raise UsageError(f"{word!r} is not a verb", hint=hint)
    module, _, name = VERBS[word].partition(":")
    __import__(f"kconnd.cli.{module}")
    gc.enable()
    found: Callable[[list[str]], int] = getattr(sys.modules[f"kconnd.cli.{module}"], name)
    return found


if __name__ == "__main__":
    run()
