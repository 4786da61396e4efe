"""What a parent lays out for a kernel is what that would have worked out, and is used once."""

import json
import sys
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
prepare().install()
OURS = {"_create_loader", "flatten_flags", "_classes_with_config_traits"}
laid_out = vars(IPKernelApp).keys() >= OURS
ours = parse(argv)
still = bool(vars(IPKernelApp).keys() & OURS)
print(json.dumps([stock, ours, laid_out, still, parse(argv)]))
"""
FILES = """
prepare().install()
import this_is_new
stand_in = ipkernel.sys
still = stand_in.platform, stand_in.stdout is sys.stdout, stand_in is sys
files = lambda modules: [one.__file__ for one in modules if getattr(one, "__file__", None)]
found = files(stand_in.modules.copy().values())
told = [sorted(found) == sorted(files(sys.modules.values())), still, ipkernel.sys is sys]
print(json.dumps([told, [file for file in found if "this_is_new" in file]]))
"""
REPLACED = """
work = prepare()
print(json.dumps([[type(one).__name__ for one in work.replacements], work.skipped]))
"""


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


def test_the_debugger_is_told_the_files_of_all_modules(tmp_path: Any) -> None:
    (tmp_path / "this_is_new.py").touch()
    (told, new), _ = run(BEGIN + FILES, cwd=str(tmp_path))
    assert told == [True, [sys.platform, True, False], True]
    assert new == [f"{tmp_path}/this_is_new.py"]


@pytest.mark.parametrize(
    ("change", "replaced", "skipped"),
    [
        ("", ["CommandLine", "ModuleFiles"], ""),
        (
            "ipkernel.IPythonKernel.__init__ = lambda self: None",
            ["CommandLine"],
            "precompute.ModuleFiles: LookupError('__main__.<lambda> does not use _kernel_modules,",
        ),
        (
            "del Application._create_loader",
            ["ModuleFiles"],
            "precompute.CommandLine: AttributeError(",
        ),
        (
            "IPKernelApp.parse_command_line = lambda self, argv: self.flatten_flags()",
            ["ModuleFiles"],
            "precompute.CommandLine: LookupError('__main__.<lambda> does not use _classes_with_",
        ),
    ],
)
def test_a_step_that_another_version_does_differently_is_left_to_it(
    change: str, replaced: list[str], skipped: str
) -> None:
    (names, reasons), _ = run(f"{BEGIN}\n{change}\n{REPLACED}")
    assert names == replaced
    assert [reason[: len(skipped)] for reason in reasons] == [skipped] * bool(skipped)
