"""The pages say what is so: their commands are run, and their tables compared with the code."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from kconnd import connect, errors
from kconnd.cli.grammar import COMMON_OPTIONS, VERBS
from kconnd.cli.suggestions import FOREIGN_VERBS
from kconnd.core.access import Right
from kconnd.core.profile.model import Profile
from kconnd.core.profile.parse import parse_profile
from kconnd.core.profile.quantities import parse_duration, parse_size
from kconnd.core.profile.settings import MachineSettings, parse_settings
from kconnd.daemon.api.routes import ROUTES
from tests.conftest import wait_for
from tests.end_to_end.container import SHARED, Container, needs_namespaces
from tests.jupyter.kernel_table import ROWS
from tests.page_blocks import (
    LANGUAGES,
    PAGES,
    ROOT,
    Block,
    Command,
    anchors,
    blocks,
    code_spans,
    links,
    shows,
    table,
)
from tests.test_floors import FLOORS

MAX_README_LINES = 200
PAGE_UID = "1000"  # of the user whose paths the pages show
SETTINGS_PAGE = ROOT / "systemd/README.md"
CONFIGS_PAGE = ROOT / "configs/README.md"
CLI_PAGE = ROOT / "kconnd/cli/README.md"
API_PAGE = ROOT / "kconnd/API.md"
ARCHITECTURE_PAGE = ROOT / "kconnd/README.md"
DAEMON_PAGE = ROOT / "kconnd/daemon/README.md"
DRAW = ROOT / "scripts/draw-states"
TOP_FOLDERS = {path.name for path in ROOT.iterdir() if path.is_dir() and path.name[0] != "."}
COMMON = {word for option in COMMON_OPTIONS for word in option.spellings}
SCRIPTS = {path.name for path in (ROOT / "scripts").iterdir()}


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def of_each_page(pages: list[Path] = PAGES) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("page", pages, ids=name_of)


def is_run(block: Block) -> bool:
    return block.language in {"console", "python"} and not block.cover


def file_of(block: Block) -> str:
    """Give the path that the first line of a block names, as in ``# ~/profile.yaml``."""
    found = re.match(r"# (\S+\.yaml)", block.text)
    return found[1] if found else ""


# --- the commands


@pytest.fixture
def machine(folder: Path) -> Iterator[Container]:
    """Give a machine of its own, whose root has an empty home and an environment for kernels."""
    (folder / "envs").mkdir()
    (folder / "envs/analysis").symlink_to(sys.prefix)
    with Container(folder, "pages") as found:
        users = Path("/etc/passwd").read_text(encoding="utf-8")
        moved = re.sub(r"^(root:.*:)[^:]*(:[^:]*)$", rf"\1{SHARED}\2", users, flags=re.MULTILINE)
        found.root("/tmp/passwd").write_text(moved, encoding="utf-8")
        found.run("mount", "--bind", "/tmp/passwd", "/etc/passwd")
        yield found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "home"
    path.mkdir()
    return path


# A slow machine adds these lines to the output of a stop.
PROGRESS = re.compile(
    r"^\S+ waits for .*\n|^  kconnd-ctl \w+ --now .* ends the wait\n", re.MULTILINE
)


def run(machine: Container, command: str, status: int | None = 0) -> str:
    path = f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}"
    text = f"exec 2>&1; cd; {command}"
    done = machine.run("bash", "-c", text, env={"PATH": path}, code=None)
    assert status in {None, done.returncode}, (command, done.returncode, done.stdout)
    return done.stdout


def local(text: str) -> str:
    return text.replace(f"kconnd-{PAGE_UID}", f"kconnd-{os.geteuid()}")


def check(machine: Container, command: Command) -> None:
    output = PROGRESS.sub("", run(machine, local(command.text), command.status))
    expected = tuple(map(local, command.output))
    assert not expected or shows(output, expected), f"$ {command.text}\n{output}"


def put(machine: Container, path: str, text: str) -> None:
    """Write a file that a page shows, and wait until a daemon has read what is in it."""
    place = machine.root(str(SHARED)) / path.removeprefix("~/")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text, encoding="utf-8")
    content = yaml.safe_load(text)
    (name, *_) = content.get("kernels", [place.stem])

    def is_known() -> bool:
        output = run(machine, "kconnd-ctl profiles", None)
        return (
            "no kconnd daemon" in output or re.search(f"^{name} ", output, re.MULTILINE) is not None
        )

    wait_for(is_known, f"the daemon to read {path}")


@needs_namespaces
@of_each_page([page for page in PAGES if any(map(is_run, blocks(page)))])
def test_every_command_does_what_the_page_shows(page: Path, machine: Container) -> None:
    for block in blocks(page):
        if block.cover:
            continue
        if block.language == "console":
            for command in block.commands():
                check(machine, command)
        elif block.language == "python":
            machine.root("/tmp/block.py").write_text(block.text, encoding="utf-8")
            run(machine, "python3 /tmp/block.py")
        elif block.language == "yaml" and file_of(block).startswith("~"):
            put(machine, file_of(block), block.text)


@pytest.mark.parametrize(
    ("output", "expected", "matches"),
    [
        ("a  b\n", ("a b",), True),
        ("a\n", ("b",), False),
        ("a\nb\n", ("a",), False),
        ("a\nb\nc\n", ("a", "…"), True),
        ("a\nb\nc\n", ("…", "c"), True),
        ("ready: /tmp/x\n", ("ready: …",), True),
        ("failed: /tmp/x\n", ("ready: …",), False),
    ],
)
def test_an_output_is_compared_with_the_pages(
    output: str, expected: tuple[str, ...], *, matches: bool
) -> None:
    assert shows(output, expected) is matches


@of_each_page()
def test_a_block_that_is_not_run_names_what_covers_it(page: Path) -> None:
    for block in blocks(page):
        assert block.language in LANGUAGES, block.text
        if block.language == "console":
            assert list(block.commands()), block.text
        if not block.cover:
            continue
        path, _, name = block.cover.partition("::")
        assert (ROOT / path).is_file(), block.cover
        if name:
            text = (ROOT / path).read_text(encoding="utf-8")
            assert re.search(rf"def {re.escape(name)}\(", text), block.cover
        else:
            text = (ROOT / path).read_text(encoding="utf-8")
            (first, *_) = block.commands()
            assert first.text.split()[0] in text, block.cover


@of_each_page()
def test_every_yaml_block_is_sound(page: Path) -> None:
    for block in blocks(page):
        if block.language != "yaml":
            continue
        content = yaml.safe_load(block.text)
        if file_of(block).endswith("/kconnd.yaml"):
            assert parse_settings(content)[1] == ()
            continue
        profiles = content.get("kernels", {"profile": content})
        for name, profile in profiles.items():
            assert parse_profile(profile, name=name)[1] == (), block.text


def options_of(verb: str) -> set[str]:
    """List the long options of a verb, without those that every verb has."""
    return {word for option in VERBS[verb].options for word in option.spellings if "--" in word}


@of_each_page()
def test_every_verb_and_option_that_is_mentioned_exists(page: Path) -> None:
    lines = [line for block in blocks(page) for line in block.text.splitlines()]
    for text in [*code_spans(page), *lines]:
        for verb, arguments in re.findall(r"kconnd-ctl ([a-z]\w*)([^|)#]*)", text):
            assert verb in VERBS, text
            own = arguments.partition(" -- ")[0]
            used = set(re.findall(r"(?<=\s)--[a-z][\w-]*", own))
            assert used <= options_of(verb) | COMMON, text


@of_each_page()
def test_every_path_that_is_mentioned_exists(page: Path) -> None:
    for span in code_spans(page):
        (path, *options) = span.split()
        path, _, name = path.partition("::")
        if path.partition("/")[0] not in TOP_FOLDERS or "/" not in path:
            continue
        assert any(ROOT.glob(path)), span
        text = (ROOT / path).read_text(encoding="utf-8") if (ROOT / path).is_file() else ""
        assert not name or f"def {name}(" in text or f"class {name}" in text, span
        if path.partition("/")[2] in SCRIPTS:
            for option in (word for word in options if word.startswith("--")):
                assert option in text or "-m tests." in text, span


@of_each_page()
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in links(page):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_readme_is_short_and_leads_to_every_page_for_users() -> None:
    readme = ROOT / "README.md"
    assert len(readme.read_text(encoding="utf-8").splitlines()) <= MAX_README_LINES
    linked = {(ROOT / link.partition("#")[0]).resolve() for link in links(readme)}
    through = {ROOT / "findings/README.md", ROOT / "tests/chaos/README.md", readme}
    assert set(PAGES) - linked <= through


# --- the tables


def keys_of(model: type[BaseModel]) -> dict[str, object]:
    """List the keys of a model with their defaults, those of a part as ``restart.policy``."""
    found: dict[str, object] = {}
    for name, field in model.model_fields.items():
        part = field.annotation
        if isinstance(part, type) and issubclass(part, BaseModel):
            found |= {f"{name}.{key}": default for key, default in keys_of(part).items()}
        else:
            found[name] = field.get_default(call_default_factory=True)
    return found


def is_default(cell: str, default: object) -> bool:
    """Compare what a page says with a default: a duration or size means the number."""
    text = cell.strip("`")
    if default in ("", None, (), {}):
        return text in {"\N{EN DASH}", "no limit", "everybody"}
    if default == float("inf"):
        return text == "off"
    if isinstance(default, float):
        return parse_duration(text) == default
    if isinstance(default, int):
        return bool(default == parse_size(text))
    return text == str(default)


def test_the_table_of_keys_is_the_profiles() -> None:
    rows = table(CONFIGS_PAGE, "## All keys")
    keys = keys_of(Profile)
    assert set(rows) == set(keys)
    keys.pop("name")
    for key, default in keys.items():
        assert is_default(rows[key][-1], default), (key, rows[key][-1], default)


def test_the_table_of_settings_is_the_settings() -> None:
    rows = table(SETTINGS_PAGE, "## Settings and quotas")
    keys = keys_of(MachineSettings)
    assert set(rows) == set(keys)
    for key, default in keys.items():
        assert is_default(rows[key][-1], default), (key, rows[key][-1], default)


def test_the_table_of_verbs_is_the_command_lines() -> None:
    rows = table(CLI_PAGE, "## Verbs")
    assert set(rows) == set(VERBS)
    for verb, (_, options) in rows.items():
        assert set(re.findall(r"--[a-z][\w-]*", options)) == options_of(verb), verb
    foreign = table(CLI_PAGE, "## If you know docker or systemctl")
    assert set(foreign) == set(FOREIGN_VERBS)


def kinds() -> Iterator[type[errors.KconndError]]:
    for kind in vars(errors).values():
        if isinstance(kind, type) and issubclass(kind, errors.KconndError):
            yield kind


def test_the_tables_of_errors_are_the_codes() -> None:
    rows = table(API_PAGE, "## Errors")
    assert rows == {kind.code: [str(kind.http_status), str(kind.exit_code)] for kind in kinds()}
    statuses = {str(kind.exit_code) for kind in kinds()}
    assert set(table(CLI_PAGE, "## Exit status")) == {"0", "130"} | statuses


def test_the_table_of_requests_is_the_routes() -> None:
    rows = table(API_PAGE, "## HTTP")
    expected = {f"{route.method} {route.path}": route.right for route in ROUTES}
    assert {request: Right[right.upper()] for request, (right, _) in rows.items()} == expected


def test_the_table_of_functions_is_the_modules() -> None:
    assert set(table(API_PAGE, "## Connection files from Python")) == set(connect.__all__)


def test_the_table_of_options_is_the_daemons() -> None:
    command = [sys.executable, "-m", "kconnd.daemon.main", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    options = set(re.findall(r"^  (--[a-z][\w-]*)", done.stdout, re.MULTILINE))
    rows = table(DAEMON_PAGE, "## Options")
    assert {row.split()[0] for row in rows} == options - {"--version"}


def test_the_list_of_modules_is_the_tree() -> None:
    text = ARCHITECTURE_PAGE.read_text(encoding="utf-8").partition("\n## Modules\n")[2]
    listed = set()
    for section in text.split("\n### ")[1:]:
        folder = section.splitlines()[0]
        listed |= {
            f"{folder}/{name}" for name in re.findall(r"^\| `(\w+\.py)` \|", section, re.MULTILINE)
        }
    tree = {name_of(path) for path in (ROOT / "kconnd").rglob("*.py")}
    assert listed == {path for path in tree if not path.endswith("__init__.py")}


def test_the_table_of_floors_is_the_tests() -> None:
    rows = table(ARCHITECTURE_PAGE, "## Floors")
    shown = {
        "kconnd" if name == "__init__" else name: int(floor)
        for floor, (folders, _) in rows.items()
        for name in re.findall(r"`(\w+)(?:/|\.py)`", folders)
    }
    rooms = {room.removeprefix("kconnd."): int(floor) for room, floor in FLOORS.items()}
    assert shown == {room: floor for room, floor in rooms.items() if "." not in room}


def test_the_state_diagram_is_that_of_the_table() -> None:
    drawn = subprocess.run([sys.executable, str(DRAW)], capture_output=True, text=True, check=True)
    text = ARCHITECTURE_PAGE.read_text(encoding="utf-8")
    shown = text.partition("<!-- scripts/draw-states -->\n")[2].partition("<!-- end of")[0]
    assert shown == drawn.stdout, "scripts/draw-states --write draws it anew"


def test_the_table_of_kernels_is_what_was_measured() -> None:
    command = [sys.executable, str(ROOT / "scripts/draw-kernels")]
    drawn = subprocess.run(command, capture_output=True, text=True, check=True)
    text = (ROOT / "kconnd/jupyter/README.md").read_text(encoding="utf-8")
    shown = text.partition("<!-- scripts/draw-kernels -->\n")[2].partition("<!-- end of")[0]
    assert shown == drawn.stdout, "scripts/draw-kernels --write makes it anew"
    measured = json.loads((ROOT / "tests/data/kernels.json").read_bytes())
    assert list(measured) == [row.name for row in ROWS], "scripts/nightly measures all"
    for row in ROWS:
        values = measured[row.name]
        assert {key: values[key] for key in row.expected()} == row.expected()


def test_findings_are_listed() -> None:
    rows = table(ROOT / "findings/README.md", "# Findings")
    scripts = sorted((ROOT / "findings").glob("*.sh"))
    assert sorted(rows) == [name_of(path) for path in scripts]
    for path in scripts:
        assert os.access(path, os.X_OK)
        assert "Exits with 0 as long as" in path.read_text(encoding="utf-8")


# --- scripts that the pages promise something of


def test_one_test_is_run_as_the_page_says() -> None:
    """The commands of the page, but for what scripts/test installs before."""
    run_tests = (ROOT / "scripts/test").read_text(encoding="utf-8")
    assert 'pytest=("$venv/bin/python" -W error -m pytest)' in run_tests
    assert 'exec "${pytest[@]}" "$@"' in run_tests
    for block in blocks(ROOT / "CONTRIBUTING.md"):
        for command in block.commands():
            program, *words = command.text.split()
            files = [word for word in words if word.startswith("tests/")]
            assert all((ROOT / file).is_file() for file in files)
            assert program == "scripts/test" or program.startswith(".venv/bin/")
    one_file = [sys.executable, "-W", "error", "-m", "pytest", "tests/core/test_access.py"]
    done = subprocess.run(one_file, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_demo_keeps_to_its_folders(tmp_path: Path) -> None:
    """The real script runs, with this environment in the place of one that it would install."""
    checkout, home = tmp_path / "checkout", tmp_path / "home"
    home.mkdir()
    for name in ("scripts", "configs"):
        shutil.copytree(ROOT / name, checkout / name)
    shutil.copy(ROOT / "pyproject.toml", checkout)
    programs = checkout / ".demo/venv/bin"
    programs.mkdir(parents=True)
    for name, module in {"python": "", "kconnd": "daemon.main", "kconnd-ctl": "cli.main"}.items():
        start = f"{sys.executable} -m kconnd.{module}" if module else sys.executable
        (programs / name).write_text(f'#!/bin/sh\nexec {start} "$@"\n', encoding="utf-8")
        (programs / name).chmod(0o755)
    stamp = re.search(r"^  stamp=\$\((.*)\)$", (ROOT / "scripts/lib.sh").read_text(), re.MULTILINE)
    assert stamp is not None
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": str(home)}
    env |= {"JUPYTER_RUNTIME_DIR": str(home / "jupyter"), "PYTHONDONTWRITEBYTECODE": "1"}

    def bash(text: str) -> str:
        done = subprocess.run(
            ["/bin/bash", "-c", text],
            cwd=checkout,
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done
        return done.stdout

    bash(
        "source scripts/lib.sh; venv=$root/.demo/venv extra=kernel python=$(find_python)\n"
        f'({stamp[1]}) >"$venv/stamp"'
    )
    before = {path for path in checkout.rglob("*") if ".demo" not in path.parts}
    try:
        shown = bash("scripts/demo")
        assert "6 * 7 is 42 in process" in shown
        run_dir = re.search(r"KCONND_SOCKET=(/tmp/kconnd-demo-\S+)/kconnd\.sock", shown)
        assert run_dir is not None
    finally:
        assert "stopped the kernels and the daemon" in bash("scripts/demo --stop")
    assert {path for path in checkout.rglob("*") if ".demo" not in path.parts} == before
    assert not list(home.rglob("kernel-*.json")), "a link that Jupyter would find"
    assert "is not running" in bash("scripts/demo --stop")
    shutil.rmtree(run_dir[1])
