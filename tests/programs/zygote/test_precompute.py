"""What a parent lays out for a kernel is what that would have worked out, and is used once."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.programs.zygote.program import BEGIN, run

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
prepare().lay_out()
OURS = {"_create_loader", "flatten_flags", "_classes_with_config_traits"}
laid_out = vars(IPKernelApp).keys() >= OURS
ours = parse(argv)
still = bool(vars(IPKernelApp).keys() & OURS)
print(json.dumps([stock, ours, laid_out, still, parse(argv)]))
"""
FILES = """
prepare().lay_out()
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
from kconnd.programs.zygote.main import import_all
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
work = prepare()
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
work = prepare()
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
LEFT = "print(json.dumps([type(part).__name__ for part in prepare().parts]))"


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
        ("", ["CommandLine", "ModuleFiles", "Prefilter", "Unconfigured"]),
        (
            "ipkernel.IPythonKernel.__init__ = lambda self: None",
            ["CommandLine", "Prefilter", "Unconfigured"],
        ),
        (
            "del Application._create_loader",
            ["ModuleFiles", "Prefilter", "Unconfigured"],
        ),
        (
            "prefilter.MacroHandler.__init__ = remember",
            ["CommandLine", "ModuleFiles", "Unconfigured"],
        ),
        (
            "vars(Application.__mro__[3])['_config_changed'].func = print",
            ["CommandLine", "ModuleFiles", "Prefilter"],
        ),
    ],
)
def test_what_another_version_does_otherwise_is_left_to_it(change: str, left: list[str]) -> None:
    assert run(f"{BEGIN}\n{change}\n{LEFT}")[0] == left
