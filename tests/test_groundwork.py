"""What a parent lays out for a kernel is what that would have worked out, and is used once."""

import json
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BEGIN = """
import json, sqlite3, sys
import ipykernel.ipkernel as ipkernel
from ipykernel.kernelapp import IPKernelApp
from traitlets.config import Application
from kconnd.groundwork import Groundwork
from IPython.core import history, prefilter

def remember(self, shell, **kwargs):
    prefilter.PrefilterHandler.__init__(self, shell=shell, **kwargs)
    self.known = [shell]
"""
PARSE = """
def parse(argv):
    app = IPKernelApp()
    try:
        app.parse_command_line(argv)
    except (Exception, SystemExit) as error:
        return repr(error)
    return repr([app.argv, app.cli_config, app.config, app.extra_args])

argv = json.loads(sys.argv[1])
stock = parse(argv)
Groundwork().lay_out()
OURS = {"_create_loader", "flatten_flags", "_classes_with_config_traits"}
laid_out = vars(IPKernelApp).keys() >= OURS
ours = parse(argv)
still = bool(vars(IPKernelApp).keys() & OURS)
print(json.dumps([stock, ours, laid_out, still, parse(argv)]))
"""
FILES = """
Groundwork().lay_out()
import this_is_new
stand_in = ipkernel.sys
still = stand_in.platform, stand_in.stdout is sys.stdout, stand_in is sys
files = lambda modules: [one.__file__ for one in modules if getattr(one, "__file__", None)]
found = files(stand_in.modules.copy().values())
told = [sorted(found) == sorted(files(sys.modules.values())), still, ipkernel.sys is sys]
print(json.dumps([told, [file for file in found if "this_is_new" in file]]))
"""
SHELLS = """
import atexit, builtins, logging, os, warnings, weakref
from ipykernel.compiler import XCachingCompiler
from ipykernel.zmqshell import ZMQInteractiveShell
from IPython.core import interactiveshell
from IPython.core.profiledir import ProfileDir
from kconnd.zygote import import_all
from traitlets.config import Config, Configurable

COUNTED = "session_number"  # of the history

def plain(value):
    if isinstance(value, dict):
        return sorted((str(key), plain(one)) for key, one in value.items() if key != COUNTED)
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return repr(value) if isinstance(value, int | float | str | type) else type(value).__qualname__

def told(one, shell):
    return [
        type(one).__qualname__,
        [one.config is shell.config, getattr(one, "shell", shell) is shell],
        type(one.parent).__qualname__,
        plain(one._trait_values),
        plain(vars(one)),
    ]

def make():
    kernel = Configurable(config=Config(json.loads(sys.argv[1])))
    shell = ZMQInteractiveShell(
        parent=kernel, profile_dir=ProfileDir(location=os.environ["IPYTHONDIR"]), user_module=None,
        user_ns=None, kernel=kernel, compiler_class=XCachingCompiler)
    manager = shell.prefilter_manager
    handlers = [manager.handlers, manager._esc_handlers]
    parts = [*manager.checkers, *manager.transformers]
    parts += [one for each in handlers for one in each.values()]
    ours = [one.prefilter_manager is one.parent is manager for one in parts]
    formatters = shell.display_formatter.formatters.values()
    ours += [one.parent is shell.display_formatter for one in formatters]
    parts += formatters
    ours += [one.parent is shell for one in shell.configurables[1:]]
    ours += [shell.display_trap.hook is shell.displayhook]
    aliases = shell.alias_manager
    ours += [aliases.get_alias(name).shell is shell for name, _ in aliases.aliases]
    ours.append(shell.prefilter.__self__ is manager)
    atexit.unregister(shell.atexit_operations)
    return [ours, plain(vars(shell)), plain(shell._trait_notifiers),
            [told(one, shell) for one in [*shell.configurables, *parts]],
            plain(shell.magics_manager.magics), shell.prefilter("?ls; x")], shell

def process():
    return [plain(vars(builtins)), plain(dict(os.environ)), str(warnings.filters), sys.path,
            id(sys.modules["__main__"]), atexit._ncallbacks(), sorted(vars(sys)),
            weakref.finalize._registered_with_atexit, sorted(logging.Logger.manager.loggerDict)]

import_all([])  # each has its own things to do at exit
before = process()
work = Groundwork()
(laid,) = (part for part in work.parts if type(part).__name__ == "Prefilter")
untouched = process() == before
kind = interactiveshell.PrefilterManager
work.lay_out()
ours, shell = make()
taken = shell.prefilter_manager is laid.manager
is_gone = interactiveshell.PrefilterManager is kind
print(json.dumps([ours, taken, untouched, is_gone, make()[0], make()[0]]))
"""
GAPS = """
import ctypes, json, sys
from kconnd.groundwork import Mallinfo, fill_gaps
libc = ctypes.CDLL(None)
libc.mallinfo2.restype = Mallinfo
libc.malloc.restype = ctypes.c_void_p

def told():
    found = libc.mallinfo2()
    return found.fordblks - found.keepcost, found.arena

held = [bytes(size) for size in range(600, 60_000, 100)]
del held[::2]  # which leaves a gap between any two
before = told()
fill_gaps()
after = told()
places = [libc.malloc(size) for size in range(600, 60_000, 5000)]
print(json.dumps([before, after, places == sorted(places)]))
"""
NAMES = """
import json, sys
from kconnd.groundwork import gather_names
import email.message, xml.dom
sys.modules["odd \\udc80"] = json
before = list(sys.modules.items())
gather_names()
after = list(sys.modules.items())
import email.message as again
print(json.dumps([before == after, sum(a is b for (a, _), (b, _) in zip(before, after)),
                  again is before[[name for name, _ in before].index("email.message")][1]]))
"""
HISTORY = """
import logging, os, time
from pathlib import Path
from ipykernel.zmqshell import ZMQInteractiveShell
from IPython.core.history import HistoryAccessor, HistoryManager
from kconnd.zygote import import_all

import_all([])
stock = HistoryManager.new_session
Groundwork().lay_out()
file, options = sys.argv[1], json.loads(sys.argv[2])
first = HistoryAccessor(hist_file=Path(file))  # which makes the tables
first.db.execute("INSERT INTO sessions VALUES (7, NULL, NULL, NULL, '')")
first.db.commit()
reader = sqlite3.connect(file, isolation_level=None)
reader.execute("BEGIN")

def rows():
    return reader.execute("SELECT session FROM sessions ORDER BY session").fetchall()

before = rows()  # and from here on nobody can commit
told = []
log = logging.Logger("history")
log.addFilter(lambda record: told.append(record.getMessage()))
shell = ZMQInteractiveShell.__new__(ZMQInteractiveShell)
one = HistoryManager(shell, hist_file=Path(file), connection_options=options, log=log)
number, meanwhile = one.session_number, rows()
end = time.monotonic() + 20
if "timeout" in options:
    if os.fork() == 0:  # which waits until nobody is at work on the database
        os._exit(0)
    told.append("a fork")
reader.execute("COMMIT")
while "timeout" not in options and rows() == before and time.monotonic() < end:
    time.sleep(0.01)
after = rows()
print(json.dumps([number, before, meanwhile, after, HistoryManager.new_session is stock, told]))
one.close()
"""
WIRE = """
import asyncio, atexit, json, logging, os, threading, weakref, zmq
from kconnd import groundwork
from kconnd.zygote import import_all
from tornado.ioloop import IOLoop

def process():
    everything = [len(os.listdir("/proc/self/task")), sorted(os.listdir("/proc/self/fd"))]
    everything += [threading.active_count(), atexit._ncallbacks(), len(IOLoop._ioloop_for_asyncio)]
    everything += [logging.getLogger().handlers, weakref.finalize._registered_with_atexit]
    everything += [zmq.Context._instance is None, asyncio._get_running_loop()]
    return repr(everything)

import_all([])
groundwork.make_shell()
heard = []
real = zmq.eventloop.zmqstream.ZMQStream.on_recv

def on_recv(self, hear, **how):
    real(self, lambda message: [hear(message), heard.append(len(message))], **how)

zmq.eventloop.zmqstream.ZMQStream.on_recv = on_recv
before = process()
groundwork.exchange_message()
print(json.dumps([process() == before, heard]))
"""
THREADLESS = """
import _thread
from kconnd import groundwork
from kconnd.zygote import import_all
import_all([])

def refuse(*_):
    raise RuntimeError("can't start new thread")

_thread.start_new_thread = refuse
zmq = sys.modules["zmq"]
zmq.Context = None  # nobody gets as far as that
try:
    groundwork.exchange_message()
except RuntimeError as error:
    print(json.dumps([str(error)]))
"""
LEFT = "print(json.dumps([type(part).__name__ for part in Groundwork().parts]))"


def run(*words: str, cwd: str | None = None) -> tuple[Any, str]:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", *words],
        capture_output=True,
        text=True,
        check=True,
        cwd=cwd,
    )
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


@pytest.mark.parametrize(
    "argv",
    [
        ["-f", "/run/kernel.json"],
        ["--pylab=inline", "-f", "x", "--InteractiveShell.colors=Linux", "more", "--", "rest"],
        ["--debug", "--IPKernelApp.exec_lines=a = 1", "--IPKernelApp.exec_lines=b = 2", "-f=x"],
        ["--matplotlib", "--no-secure", "--user=ada"],
        ["--no-such-option", "--"],
        ["--shell", "-1"],
        [],
    ],
    ids=" ".join,
)
def test_a_command_line_is_understood_as_it_would_have_been(argv: list[str]) -> None:
    (stock, ours, laid_out, still, again), said = run(BEGIN + PARSE, json.dumps(argv))
    assert (ours, again) == (stock, stock)
    assert (laid_out, still) == (True, False)
    errors = said.split("usage: ")  # of a command line that cannot be parsed
    assert len(errors) in {1, 4}
    assert len(set(errors[1:])) <= 1


@pytest.mark.parametrize(
    ("config", "taken"),
    [
        ({"IPKernelApp": {"connection_file": "x"}}, True),
        ({}, True),
        ({"PrefilterChecker": {"priority": 7}}, False),
        ({"ZMQInteractiveShell": {"PrefilterManager": {"multi_line_specials": False}}}, False),
        ({"IPKernelApp": {"ZMQInteractiveShell": {"colors": "nocolor"}}}, False),
    ],
)
def test_a_shell_is_what_it_would_have_been(
    config: dict[str, Any],
    taken: bool,  # noqa: FBT001  # a case
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    (ours, was_taken, untouched, is_gone, stock, again), _ = run(BEGIN + SHELLS, json.dumps(config))
    assert (ours, again) == (stock, stock)
    assert (was_taken, untouched, is_gone) == (taken, True, True)
    assert all(stock[0])
    assert all(all(refers) for _, refers, *_ in stock[3])


def test_the_debugger_is_told_the_files_of_all_modules(tmp_path: Any) -> None:
    (tmp_path / "this_is_new.py").touch()
    (told, new), _ = run(BEGIN + FILES, cwd=str(tmp_path))
    assert told == [True, [sys.platform, True, False], True]
    assert new == [f"{tmp_path}/this_is_new.py"]


@pytest.mark.parametrize(
    ("change", "left"),
    [
        ("", ["CommandLine", "ModuleFiles", "Prefilter", "HistorySession"]),
        (
            "ipkernel.IPythonKernel.__init__ = lambda self: None",
            ["CommandLine", "Prefilter", "HistorySession"],
        ),
        ("del Application._create_loader", ["ModuleFiles", "Prefilter", "HistorySession"]),
        (
            "prefilter.MacroHandler.__init__ = remember",
            ["CommandLine", "ModuleFiles", "HistorySession"],
        ),
        (
            "history.HistoryManager.new_session = lambda self: None",
            ["CommandLine", "ModuleFiles", "Prefilter"],
        ),
        ("sqlite3.threadsafety = 1", ["CommandLine", "ModuleFiles", "Prefilter"]),
    ],
)
def test_what_another_version_does_otherwise_is_left_to_it(change: str, left: list[str]) -> None:
    assert run(f"{BEGIN}\n{change}\n{LEFT}")[0] == left


def test_nobody_waits_until_a_session_of_the_history_is_on_disk(tmp_path: Path) -> None:
    """Not even where somebody else reads the database, for whom each commit has to wait."""
    options = '{"check_same_thread": false}'
    found, _ = run(BEGIN + HISTORY, str(tmp_path / "history.sqlite"), options)
    number, before, meanwhile, after, is_gone, told = found
    assert (number, before, meanwhile, after) == (8, [[7]], [[7]], [[7], [8]])
    assert (is_gone, told) == (True, [])


def test_a_session_that_cannot_be_committed_is_told_of(tmp_path: Path) -> None:
    options = '{"check_same_thread": false, "timeout": 0.1}'
    found, _ = run(BEGIN + HISTORY, str(tmp_path / "history.sqlite"), options)
    number, _, _, after, _, told = found
    assert (number, after) == (8, [[7]])
    assert told == ["Failed to create history session: database is locked", "a fork"]


def test_a_connection_that_is_for_one_thread_is_left_to_that(tmp_path: Path) -> None:
    found, _ = run(BEGIN + HISTORY, str(tmp_path / "history.sqlite"), '{"timeout": 0.1}')
    told, _ = found[-1]
    assert told.endswith("History will not be saved."), "as IPython says of what was not committed"


def test_a_message_is_exchanged_without_a_trace() -> None:
    (untouched, (frames,)), _ = run(WIRE)
    assert untouched
    assert frames == 7, "an identity, a delimiter, a signature and four parts of a message"


def test_without_threads_no_message_is_exchanged() -> None:
    """Since libzmq ends a process that can have none."""
    (said,), _ = run(BEGIN + THREADLESS)
    assert said == "can't start new thread"


def test_the_modules_are_the_same_by_names_of_their_own() -> None:
    (same, shared, found), _ = run(NAMES)
    assert (same, shared, found) == (True, 0, True)


telling = pytest.mark.skipif(platform.libc_ver() < ("glibc", "2.33"), reason="it does not tell")


@telling
def test_what_is_taken_next_is_no_gap_between_what_is_in_use() -> None:
    ((gaps, size), (left, size_then), in_order), _ = run(GAPS)
    assert gaps > 1_000_000
    assert left < 10_000
    assert size_then - size < 200_000, "the heap has hardly grown for it"
    assert in_order


@telling
def test_gaps_are_not_filled_for_ever_where_python_lives_among_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONMALLOC", "malloc")
    run(GAPS.replace("fill_gaps()", "for _ in range(3): fill_gaps()"))
