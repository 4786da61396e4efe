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
(unconfigured,) = (part for part in work.parts if type(part).__name__ == "Unconfigured")
unconfigured.handler.func = unconfigured.stock
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
CONFIGURED = """
from traitlets import Integer
from traitlets.config import Config, Configurable

class Part(Configurable):
    level = Integer(1).tag(config=True)

class Stubborn(Part):
    def _find_my_config(self, config):
        return Config(level=7)

class Parent(Configurable):
    def _find_my_config(self, config):
        return Config(Part=Config(level=9))

class Odd(Part):
    def traits(self, **metadata):
        self.level = 8
        return super().traits(**metadata)

def levels(config):
    config = Config(config)
    app = IPKernelApp()
    app.update_config(config)
    made = [kind(**how) for kind in (Part, Stubborn, Odd)
            for how in ({"config": config}, {"parent": app}, {"parent": Part(parent=app)},
                        {"parent": Parent(config=config)})]
    file = IPKernelApp(config=config).connection_file
    return [[file, *[one.level for one in made]], app]

def all_levels():
    configs = json.loads(sys.argv[1])
    return [levels(config)[0] for config in configs]

stock = all_levels()
work = Groundwork()
(part,) = (part for part in work.parts if type(part).__name__ == "Unconfigured")
calls = []
before, start = part.stock, IPKernelApp.start
part.stock = lambda one, *told: [calls.append(type(one).__name__), before(one, *told)]
work.lay_out()
ours = all_levels()
laid_out = part.handler.func == part.changed

class Started(Application):
    def start(self):
        started.append(part.handler.func is part.stock)

started = []
_, app = levels({})
app.subapp = Started()
app.start()
still = IPKernelApp.start is not start
print(json.dumps([stock, ours, calls.count("Part"), laid_out, started, still]))
"""
HISTORY = """
import logging, os, signal, threading
from pathlib import Path
from ipykernel.zmqshell import ZMQInteractiveShell
from IPython.core import interactiveshell
from IPython.core.history import HistoryManager
from IPython.core.profiledir import ProfileDir
from kconnd import groundwork
from kconnd.zygote import import_all
from tornado.ioloop import IOLoop
from traitlets.config import Config

class Kernel:
    started = 0

    def start(self):
        self.started += 1
        self.io_loop = IOLoop.current()

def make(kernel):
    shell = ZMQInteractiveShell.__new__(ZMQInteractiveShell)
    shell.log, shell.kernel, shell.configurables = log, kernel, []
    shell.push = lambda *_, **__: None
    shell.profile_dir = ProfileDir(location=os.path.dirname(file))
    shell.config = Config({"HistoryManager": {"connection_options": options, "db_cache_size": 3}})
    shell.init_history()
    assert shell.configurables == [shell.history_manager]
    return shell.history_manager

def opened():
    fds = os.listdir("/proc/self/fd")
    return any(os.path.realpath(f"/proc/self/fd/{one}") == file for one in fds)

def rows():
    with sqlite3.connect(file) as reader:
        return [list(row) for row in reader.execute("SELECT session FROM sessions")]

def whole(one):
    found = {"lists": read(one), **vars(one), **one._trait_values}
    del found["_trait_values"]
    plain = (bool, int, str, list, dict, Path)
    return {name: repr(value) if isinstance(value, plain) else type(value).__qualname__
            for name, value in found.items()}

def read(one):
    return [one.input_hist_parsed, one.output_hist, one.dir_hist]

import_all([])
told = []
log = logging.Logger("history")
log.addFilter(lambda record: told.append(record.getMessage()))
file, way, options = os.path.realpath(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
groundwork.REST = 0.01
Groundwork().lay_out()
kernel = Kernel()
one = make(kernel)
lists = read(one)
kernel.start()
before = [kernel.started, "start" in vars(kernel), opened()]
if way == "rest":
    loop = IOLoop.current()
    loop.call_later(0.1, loop.stop)
    loop.start()
elif way == "number":
    one.session_number
elif way == "input":
    one.store_inputs(1, "1 + 1")
elif way == "interrupt":
    begin_session = HistoryManager.new_session

    def interrupted(self):
        signal.raise_signal(signal.SIGINT)
        begin_session(self)

    HistoryManager.new_session = interrupted
    try:
        one.store_inputs(1, "1 + 1")
    except KeyboardInterrupt:
        told.append("interrupted")
    HistoryManager.new_session = begin_session
    assert told.pop() == "interrupted"
elif way == "threads":
    heard = []
    asking = [threading.Thread(target=lambda: heard.append(one.session_number)) for _ in range(9)]
    [thread.start() for thread in asking], [thread.join() for thread in asking]
    assert heard == [1] * 9
elif way == "fork":
    child = os.fork()
    if child == 0:
        one.end_session()
        os._exit(0)
    os.waitpid(child, 0)
begun, sessions = opened(), rows() if os.path.isfile(file) else []
kept = all(map(lambda ours, now: ours is now, lists, read(one)))
other = make(Kernel())  # of IPython's own kind
ours, stock = whole(one), whole(other)
differ = {name for name in ours.keys() | stock.keys() if ours.get(name) != stock.get(name)}
print(json.dumps([before, begun, kept, type(one) is type(other), sessions, sorted(differ), told]))
for each in (one, other):
    each.close()
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


def test_what_a_configuration_sets_is_what_it_would_have_set() -> None:
    configs = [
        {},
        {"IPKernelApp": {"connection_file": "x"}},
        {"Part": {"level": 2}},
        {"IPKernelApp": {"Part": {"level": 3}}},
        {"Part": {"Part": {"level": 4}}, "IPKernelApp": {"connection_file": "y"}},
    ]
    found, _ = run(BEGIN + CONFIGURED, json.dumps(configs))
    stock, ours, calls, laid_out, started, still = found
    assert ours == stock
    assert [row[0] for row in stock] == ["", "x", "", "", "y"]
    assert [row[2:4] for row in stock] == [[1, 1], [1, 1], [2, 2], [3, 1], [1, 4]]
    assert stock[0][1:] == [1, 1, 1, 9, 7, 7, 7, 7, 8, 8, 8, 9]
    assert calls == 3 * 6 + 2 * 3, "where there may be sections, and nowhere else"
    assert (laid_out, started, still) == (True, [True], False), "until the kernel starts"


def test_the_debugger_is_told_the_files_of_all_modules(tmp_path: Any) -> None:
    (tmp_path / "this_is_new.py").touch()
    (told, new), _ = run(BEGIN + FILES, cwd=str(tmp_path))
    assert told == [True, [sys.platform, True, False], True]
    assert new == [f"{tmp_path}/this_is_new.py"]


@pytest.mark.parametrize(
    ("change", "left"),
    [
        ("", ["CommandLine", "ModuleFiles", "Prefilter", "Unconfigured", "LateHistory"]),
        (
            "ipkernel.IPythonKernel.__init__ = lambda self: None",
            ["CommandLine", "Prefilter", "Unconfigured", "LateHistory"],
        ),
        (
            "del Application._create_loader",
            ["ModuleFiles", "Prefilter", "Unconfigured", "LateHistory"],
        ),
        (
            "prefilter.MacroHandler.__init__ = remember",
            ["CommandLine", "ModuleFiles", "Unconfigured", "LateHistory"],
        ),
        (
            "vars(Application.__mro__[3])['_config_changed'].func = print",
            ["CommandLine", "ModuleFiles", "Prefilter", "LateHistory"],
        ),
        (
            "history.HistoryManager.__init__ = lambda self: None",
            ["CommandLine", "ModuleFiles", "Prefilter", "Unconfigured"],
        ),
        (
            "history.HistoryAccessor = history.HistoryAccessorBase",
            ["CommandLine", "ModuleFiles", "Prefilter", "Unconfigured"],
        ),
    ],
)
def test_what_another_version_does_otherwise_is_left_to_it(change: str, left: list[str]) -> None:
    assert run(f"{BEGIN}\n{change}\n{LEFT}")[0] == left


@pytest.mark.parametrize("way", ["rest", "number", "input", "interrupt", "threads", "fork"])
def test_a_history_begins_once_it_is_needed_or_the_kernel_rests(way: str, tmp_path: Path) -> None:
    """And is then what it would have been, with the lists that the shell has got already."""
    options = '{"check_same_thread": false}'
    found, _ = run(BEGIN + HISTORY, str(tmp_path / "history.sqlite"), way, options)
    before, begun, kept, of_its_kind, sessions, differ, told = found
    assert before == [1, False, False], "the kernel has started, and nothing is open"
    assert (begun, kept, of_its_kind) == (True, True, True)
    assert sessions == [[1]], "also where many want it"
    assert {*differ} == {"session_number", *SINCE.get(way, ())}
    assert told == []


SINCE = {
    "input": {"_i00", "db_input_cache", "input_hist_raw", "input_hist_parsed", "lists"},
    "fork": {"save_thread"},
}
"""What differs since: a cell was run; and before a fork, IPython ends its thread."""


def test_a_history_whose_connection_is_for_one_thread_begins_in_that(tmp_path: Path) -> None:
    found, _ = run(BEGIN + HISTORY, str(tmp_path / "history.sqlite"), "number", "{}")
    assert found[0] == [1, False, True]


def test_a_history_that_cannot_be_opened_is_told_of_as_ipython_does(tmp_path: Path) -> None:
    (tmp_path / "history.sqlite").mkdir()
    options = '{"check_same_thread": false}'
    found, _ = run(BEGIN + HISTORY, str(tmp_path / "history.sqlite"), "rest", options)
    *_, of_its_kind, _, differ, told = found
    half = len(told) // 2
    assert told[:half] == told[half:] != []
    assert (of_its_kind, differ) == (True, [])


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
