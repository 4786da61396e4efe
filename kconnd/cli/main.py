"""``kconnd-ctl``: finds the verb, and imports and runs that one alone.

Rules. Look-ups are typed all day, so nothing is imported before it is needed. Errors go to
stderr as one sentence and one hint, and the exit code is the error's own. With ``--json`` there
is nothing on stdout but JSON, and an error that ends a verb stands there, too, as one line
``{"error": {"code", "message", "hint"}}``.
"""

from __future__ import annotations

import gc
import io
import os
import sys

from kconnd.errors import KconndError, UsageError

TYPE_CHECKING = False  # typing's own would cost a look-up five milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

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
  run NAME FILE        run code on it; -c CODE for a line
  console NAME         a terminal console on it
  qtconsole NAME       a Qt console on it
  connection NAME      its connection file, for any Jupyter client
  kernelspec install   let JupyterLab, notebooks and papermill choose your profiles

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
  6 no daemon answers   130 interrupted; of several names, that of the first failure
"""

VERBS = {
    "list": "query_verbs:list_",
    "info": "query_verbs:info",
    "why": "query_verbs:why",
    "logs": "streams:logs",
    "events": "streams:events",
    "wait": "query_verbs:wait",
    "connection": "query_verbs:connection",
    "profiles": "query_verbs:profiles",
    "health": "query_verbs:health",
    "start": "command_verbs:start",
    "stop": "command_verbs:stop",
    "restart": "command_verbs:restart",
    "interrupt": "command_verbs:interrupt",
    "signal": "command_verbs:signal",
    "reload": "command_verbs:reload",
    "run": "run:run",
    "console": "console:console",
    "qtconsole": "qtconsole:qtconsole",
    "kernelspec": "kernelspec:kernelspec",
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
        with _Printing():
            return _told(given)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # as in `kconnd-ctl logs NAME | head`
        _let_go_of_stdout()
        return 0
    except OSError as error:  # the client's own are told as UnreachableError
        _let_go_of_stdout()
        tell(KconndError(f"writing what was asked for: {error.strerror}"))
        return KconndError.exit_code


def run() -> NoReturn:
    """Run ``kconnd-ctl`` as a program of its own.

    All is written when `main` returns. To take the interpreter apart would be a seventh of a
    look-up's time, and could wait for threads that still listen; to look for garbage while it
    imports, a twentieth of the time of verbs that import more.
    """
    gc.set_threshold(100_000)
    os._exit(main())


def _told(given: list[str]) -> int:
    try:
        return _run(list(given))
    except KconndError as error:
        tell(error)
        if "--json" in given:
            import json  # noqa: PLC0415  # only for this

            print(json.dumps({"error": in_json(error)}))
        return error.exit_code
    except SystemExit as end:  # argparse has given help
        return int(end.code or 0)


def in_json(error: KconndError) -> dict[str, str]:
    """Give an error for programs; the fields are those that the daemon sends."""
    return {
        "code": error.code,
        "message": error.message,
        "hint": error.hint,
        "output": error.output,
    }


def tell(error: KconndError) -> None:
    """Say what went wrong: one sentence, what the kernel itself said, one hint."""
    from kconnd.cli.render import last_words, printable  # noqa: PLC0415  # only for this

    print(f"kconnd-ctl: {printable(error.message)}", file=sys.stderr)
    if error.output:
        for line in last_words(error.output.rstrip("\n")):
            print(f"  | {line}", file=sys.stderr)
    if error.hint:
        print(f"  {printable(error.hint)}", file=sys.stderr)


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
    return _verb(given[0])([*before, *given[1:]])


def _verb(word: str) -> Callable[[list[str]], int]:
    if word not in VERBS:
        import difflib  # noqa: PLC0415  # only for this

        near = difflib.get_close_matches(word, VERBS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "kconnd-ctl --help lists the verbs"
        raise UsageError(f"{word!r} is not a verb", hint=hint)
    module, _, name = VERBS[word].partition(":")
    __import__(f"kconnd.cli.{module}")
    found: Callable[[list[str]], int] = getattr(sys.modules[f"kconnd.cli.{module}"], name)
    return found


class _Printing:
    """Keeps stdout from failing on a letter, and has all of it out before the end."""

    def __enter__(self) -> None:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # not every locale has all letters

    def __exit__(self, *_: object) -> None:
        if sys.stdout is not None:  # it is, where the caller closed it
            sys.stdout.flush()


def _let_go_of_stdout() -> None:
    """Keep Python from flushing, at its end, what nobody reads any more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


if __name__ == "__main__":
    run()
