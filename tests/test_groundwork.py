"""What a parent lays out for a kernel is what that would have worked out, and is used once."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BEGIN = """
import json, sys
import ipykernel.ipkernel as ipkernel
from ipykernel.kernelapp import IPKernelApp
from traitlets.config import Application
from kconnd.groundwork import Groundwork
from IPython.core import prefilter

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
from IPython.core import interactiveshell
from ipykernel.zmqshell import ZMQInteractiveShell
from traitlets.config import Config

def told(one, shell):
    return [
        type(one).__name__,
        [one.shell is shell, one.config is shell.config],
        type(one.parent).__name__,
        sorted((name, repr(value)) for name, value in one._trait_values.items()
               if name not in {"shell", "parent", "config", "prefilter_manager"}),
    ]

def make():
    shell = ZMQInteractiveShell(config=Config(json.loads(sys.argv[1])))
    manager = shell.prefilter_manager
    handlers = [manager.handlers, manager._esc_handlers]
    parts = [manager, *manager.checkers, *manager.transformers]
    parts += [one for each in handlers for one in each.values()]
    ours = [one.prefilter_manager is one.parent is manager for one in parts[1:]]
    names = [sorted(each) for each in handlers]
    return [ours, names, [told(one, shell) for one in parts], shell.prefilter("?ls; x")]

stock = make()
kind = interactiveshell.PrefilterManager
work = Groundwork()
(laid,) = (part for part in work.parts if type(part).__name__ == "Prefilter")
work.lay_out()
ours = make()
taken = laid.manager.shell.prefilter_manager is laid.manager
print(json.dumps([stock, ours, taken, interactiveshell.PrefilterManager is kind, make()]))
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
def test_a_shell_passes_lines_through_what_it_would_have_made(
    config: dict[str, Any],
    taken: bool,  # noqa: FBT001  # a case
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    (stock, ours, was_taken, is_gone, again), _ = run(BEGIN + SHELLS, json.dumps(config))
    assert (ours, again) == (stock, stock)
    assert (was_taken, is_gone) == (taken, True)
    assert all(stock[0])
    assert all(all(refers) for _, refers, *_ in stock[2])


def test_the_debugger_is_told_the_files_of_all_modules(tmp_path: Any) -> None:
    (tmp_path / "this_is_new.py").touch()
    (told, new), _ = run(BEGIN + FILES, cwd=str(tmp_path))
    assert told == [True, [sys.platform, True, False], True]
    assert new == [f"{tmp_path}/this_is_new.py"]


@pytest.mark.parametrize(
    ("change", "left"),
    [
        ("", ["CommandLine", "ModuleFiles", "Prefilter"]),
        ("ipkernel.IPythonKernel.__init__ = lambda self: None", ["CommandLine", "Prefilter"]),
        ("del Application._create_loader", ["ModuleFiles", "Prefilter"]),
        ("prefilter.MacroHandler.__init__ = remember", ["CommandLine", "ModuleFiles"]),
    ],
)
def test_what_another_version_does_otherwise_is_left_to_it(change: str, left: list[str]) -> None:
    assert run(f"{BEGIN}\n{change}\n{LEFT}")[0] == left
