"""Each module has a fast test that fails when a line of its main function is broken.

The tables in ``tests/broken_lines`` name, for each module, that line, a broken replacement, and the
test. There is a table for each folder of ``kconnd``, and ``kconnd.toml`` for the modules outside of
folders. Each commit checks that the tables are complete and fit the code. With ``KCONND_NIGHTLY``,
each line is broken in a copy of the checkout, where its test has to fail, while it passes in an
intact copy.

An entry, headed by the path in the table's folder; a module can have several::

    [["tasks/heartbeats.py"]]
    line = 'a whole line of the module, without its indentation, which occurs once'
    broken = 'the replacement'
    test = 'tests/daemon/tasks/test_heartbeats.py::test_name'
"""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from compileall import compile_dir
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from py_compile import PycInvalidationMode
from xml.etree import ElementTree as ET

import pytest

ROOT = Path(__file__).parent.parent
TABLES = ROOT / "tests/broken_lines"
OUTSIDE_FOLDERS = "kconnd"  # the table of the modules outside of folders
SOUND_LIMIT_S = 15  # for a test of this table, with the fixtures that it needs
BROKEN_LIMIT_S = 60  # it may wait until its own limit for what never happens
NOT_COPIED = (".*", "__pycache__", "build", "dist")
# With the plug-ins alone that the tests need: schemathesis takes a second to import.
PLUGINS = ("-p", "pytest_asyncio.plugin", "-p", "pytest_timeout", "-p", "no:cacheprovider")
PYTEST = ("-B", "-W", "error", "-m", "pytest", "-q", "-x", *PLUGINS)
# Set for this process, and no option of the process of a test.
OUR_OPTIONS = {"PYTEST_ADDOPTS", "KCONND_NIGHTLY"}
# Modules that start daemons: no test that imports them, or whose fixtures do, is fast.
STARTS_DAEMON = re.compile(r"tests\.(end_to_end|hostile_owner|server)\b")
SLOW_FOLDERS = {"end_to_end", "hostile_owner", "server", "chaos", "bench"}


@dataclass(frozen=True)
class BrokenLine:
    """A line of a module, a broken replacement, and the test that has to fail with it."""

    module: str
    line: str
    broken: str
    test: str

    @cached_property
    def source(self) -> str:
        return (ROOT / self.module).read_text(encoding="utf-8")

    @property
    def count(self) -> int:
        """How many times the module has the line."""
        return [text.strip() for text in self.source.splitlines()].count(self.line)

    def break_source(self) -> str:
        """Return the module's text with the broken line."""
        indented = re.compile(rf"^([ \t]*){re.escape(self.line)}[ \t]*$", re.MULTILINE)
        return indented.sub(lambda match: match[1] + self.broken, self.source)


def modules() -> Iterator[str]:
    """List the modules, without each ``__init__`` that has no function."""
    for path in sorted((ROOT / "kconnd").rglob("*.py")):
        nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        functions = (isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) for node in nodes)
        if path.stem != "__init__" or any(functions):
            yield str(path.relative_to(ROOT))


def rows(path: Path) -> Iterator[BrokenLine]:
    folder = "kconnd" if path.stem == OUTSIDE_FOLDERS else f"kconnd/{path.stem}"
    for name, entries in tomllib.loads(path.read_text(encoding="utf-8")).items():
        yield from (BrokenLine(f"{folder}/{name}", **entry) for entry in entries)


MODULES = list(modules())
ROWS = [row for path in sorted(TABLES.glob("*.toml")) for row in rows(path)]
each_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.module)


def test_each_module_has_a_broken_line() -> None:
    listed = {row.module for row in ROWS}
    assert not listed - set(MODULES), "there is no such module, or it has no code"
    assert not [module for module in MODULES if module not in listed], "each needs an entry"


@each_row
def test_the_line_occurs_once_and_its_replacement_changes_the_code(row: BrokenLine) -> None:
    assert row.count == 1
    broken = ast.parse(row.break_source())
    assert ast.dump(broken) != ast.dump(ast.parse(row.source))
    compile(broken, row.module, "exec")


@each_row
def test_the_test_exists_and_starts_no_daemon(row: BrokenLine) -> None:
    path, *names = row.test.partition("[")[0].split("::")
    assert names, "a file is no test: name the function"
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    nodes: list[ast.AST] = [tree]
    for name in names:
        children = [child for node in nodes for child in ast.iter_child_nodes(node)]
        nodes = [child for child in children if getattr(child, "name", None) == name]
    assert nodes, f"{path} has no {'::'.join(names)}"
    assert Path(path).parts[1] not in SLOW_FOLDERS
    assert not daemon_starters(tree)
    fixtures = (ROOT / path).with_name("conftest.py")
    if fixtures.exists():
        starters = daemon_starters(ast.parse(fixtures.read_text(encoding="utf-8")))
        arguments = {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
        assert not starters & arguments


def daemon_starters(tree: ast.Module) -> set[str]:
    """Return the names through which a test module can start a daemon: imports and functions."""
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    starts = [node for node in imports if STARTS_DAEMON.match(node.module or "")]
    imported = {alias.name for node in starts for alias in node.names}
    users = {
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and imported & set(re.findall(r"\w+", ast.unparse(node)))
    }
    return imported | users


def test_a_test_that_can_start_a_daemon_would_be_seen() -> None:
    tree = ast.parse("from tests.end_to_end.daemon import Daemon\ndef lab(home): Daemon(home)")
    assert daemon_starters(tree) == {"Daemon", "lab"}
    assert not daemon_starters(ast.parse("from tests.cli.fake_daemon import FakeDaemon"))


# --- the proof


@dataclass(frozen=True)
class Outcome:
    """How a test ended in a copy of the checkout."""

    status: int
    counts: Mapping[str, int]
    output: str

    @property
    def has_passed(self) -> bool:
        return self.status == pytest.ExitCode.OK and self._ran and not self.counts["skipped"]

    @property
    def has_failed(self) -> bool:
        """Whether the test itself ran and failed; a test that could not run proves nothing."""
        return self.status == pytest.ExitCode.TESTS_FAILED and self._ran

    @property
    def _ran(self) -> bool:
        return self.counts["tests"] > 0


class Checkout:
    """A copy of the checkout, in which a test runs as a process of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "checkout"
        skip = shutil.ignore_patterns(*NOT_COPIED)
        shutil.copytree(ROOT, self._folder, symlinks=True, ignore=skip)
        self._report = folder / "report.xml"
        # By hash, since a line can be broken and restored within the resolution of a time stamp.
        by_hash = PycInvalidationMode.CHECKED_HASH
        compile_dir(self._folder / "kconnd", quiet=1, invalidation_mode=by_hash)

    def write(self, module: str, text: str) -> None:
        (self._folder / module).write_text(text, encoding="utf-8")

    def begin(self, test: str, limit_s: float) -> "subprocess.Popen[str]":
        self._report.unlink(missing_ok=True)
        options = [*PYTEST, f"--junitxml={self._report}", f"--timeout={limit_s}", test]
        env = {name: value for name, value in os.environ.items() if name not in OUR_OPTIONS}
        return subprocess.Popen(
            [sys.executable, *options],
            cwd=self._folder,
            env=env | {"PYTHONPATH": str(self._folder), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def end(self, process: "subprocess.Popen[str]") -> Outcome:
        with process:
            output, _ = process.communicate()
        counts = dict.fromkeys(("tests", "failures", "errors", "skipped"), 0)
        if self._report.exists():
            (suite,) = ET.parse(self._report).getroot()  # noqa: S314  # our own process wrote it
            counts = {name: int(suite.attrib[name]) for name in counts}
        return Outcome(process.returncode, counts, output)


@pytest.fixture(scope="module")
def checkouts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Checkout, Checkout]:
    """Make an intact copy, and one whose lines are broken one after the other."""
    return Checkout(tmp_path_factory.mktemp("intact")), Checkout(tmp_path_factory.mktemp("broken"))


def prove(row: BrokenLine, intact: Checkout, broken: Checkout) -> tuple[Outcome, Outcome]:
    """Run a row's test in both copies at the same time."""
    broken.write(row.module, row.break_source())
    try:
        processes = intact.begin(row.test, SOUND_LIMIT_S), broken.begin(row.test, BROKEN_LIMIT_S)
        return intact.end(processes[0]), broken.end(processes[1])
    finally:
        broken.write(row.module, row.source)


@pytest.mark.nightly
@each_row
def test_the_test_fails_with_the_broken_line_alone(
    row: BrokenLine, checkouts: tuple[Checkout, Checkout]
) -> None:
    sound, broken = prove(row, *checkouts)
    assert sound.has_passed, sound.output
    assert broken.has_failed, f"{row.test} passes with {row.broken!r}\n{broken.output}"


@pytest.mark.nightly
def test_a_line_whose_change_no_test_sees_is_not_proven(
    checkouts: tuple[Checkout, Checkout],
) -> None:
    # A test that imports the module itself, and does not run it in another process.
    example = next(row for row in ROWS if row.module == "kconnd/core/access.py")
    harmless = BrokenLine(
        example.module, example.line, f"{example.line}  # as it was", example.test
    )
    sound, broken = prove(harmless, *checkouts)
    assert sound.has_passed
    assert not broken.has_failed
    unreadable = BrokenLine(example.module, example.line, "= nothing", example.test)
    assert not prove(unreadable, *checkouts)[1].has_failed, "what cannot be imported runs no test"
