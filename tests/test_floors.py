"""The architecture is a test: who may import whom, and what stays out of where."""

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# A module imports only from lower floors, or from its own room.
FLOORS = {
    "kconnd": 0,
    "kconnd.errors": 0,
    "kconnd.private_tmp": 1,
    "kconnd.programs.zygote.staleness": 1,
    "kconnd.programs": 2,
    # Decisions, without I/O.
    "kconnd.core.protocol": 1.0,
    "kconnd.core.launch": 1.0,
    "kconnd.core": 1.1,
    "kconnd.core.kernel": 1.2,
    "kconnd.core.profile": 1.3,
    # The outside world.
    "kconnd.client": 2,
    "kconnd.system.systemd": 2.0,
    "kconnd.system.process": 2.0,
    "kconnd.system": 2.0,
    "kconnd.system.files": 2.1,
    "kconnd.system.packages": 2.15,
    "kconnd.system.user_scope": 2.15,
    "kconnd.system.http": 2.2,
    "kconnd.system.kernelspecs": 2.2,
    "kconnd.system.kernel_software": 2.2,
    "kconnd.system.ledger": 2.2,
    "kconnd.system.store": 2.2,
    "kconnd.system.channels": 2.3,
    "kconnd.system.launch_files": 2.27,
    "kconnd.system.program_choice": 2.25,
    "kconnd.system.profiles": 2.3,
    "kconnd.launchers": 3,
    "kconnd.connect": 3.1,
    "kconnd.connection_search": 3,
    "kconnd.qtconsole_argv": 3,
    "kconnd.attach": 3,
    "kconnd.spawn": 3,
    # Processes that last.
    "kconnd.front": 4,
    "kconnd.daemon": 4.0,
    "kconnd.daemon.kernel": 4.1,
    "kconnd.daemon.warm": 4.2,
    "kconnd.daemon.probing": 4.25,
    "kconnd.daemon.kernels": 4.3,
    "kconnd.daemon.api": 4.4,
    "kconnd.daemon.tasks": 4.4,
    "kconnd.daemon.main": 4.5,
    # Clients.
    "kconnd.cli": 5,
    "kconnd.jupyter": 5,
}
# cli/ is a client like any other: it talks to the daemon, it does not import it.
CLI_MAY = {
    *("kconnd", "kconnd.errors", "kconnd.client", "kconnd.attach"),
    *("kconnd.private_tmp", "kconnd.qtconsole_argv", "kconnd.spawn"),
    *(room for room in FLOORS if room.startswith("kconnd.core")),
}
# What looks at the machine; look-ups import none of them.
CLI_OF_ITS_OWN = {"doctor", "session_checks", "kernelspec"}
# What speaks to kernels; `run` imports it once it has read the command line.
SPEAKS_TO_KERNELS = {"kernel_session": {"zmq", "jupyter_client"}}
IMPORT_CALLS = ("__import__", "import_module")
STDLIB = sys.stdlib_module_names
NO_IO = {"os", "socket", "subprocess", "asyncio", "time", "random", "secrets", "pathlib", "logging"}


def modules() -> list[Path]:
    return sorted((ROOT / "kconnd").rglob("*.py"))


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path, *, top_only: bool = False) -> Iterator[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in tree.body if top_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (
                f"{node.module}.{alias.name}" if node.module in FLOORS else node.module
                for alias in node.names
            )


def room_of(module: str) -> str | None:
    """Give the longest known place that a module belongs to."""
    found = [room for room in FLOORS if module == room or module.startswith(f"{room}.")]
    return max(found, key=len, default=None)


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_a_module_imports_only_from_lower_floors(path: Path) -> None:
    room = room_of(name_of(path))
    assert room is not None
    for imported in imports(path):
        other = room_of(imported)
        if other not in {None, room}:
            assert FLOORS[other or ""] < FLOORS[room], f"{name_of(path)} imports {imported}"


def dependencies(path: Path, names: set[str]) -> set[str]:
    """Return the modules of ours that a module imports, also in functions and by ``__import__``."""
    candidates: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            candidates |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            candidates |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(IMPORT_CALLS):
            prefix = literal_prefix(node.args[0])
            candidates |= {name for name in names if prefix and name.startswith(prefix)}
    return (candidates & names) - {name_of(path)}


def literal_prefix(node: ast.expr) -> str:
    """Return the text that a string or an f-string begins with."""
    first = node.values[0] if isinstance(node, ast.JoinedStr) else node
    return str(first.value) if isinstance(first, ast.Constant) else ""


def test_imports_have_no_circle() -> None:
    names = {name_of(path) for path in modules()}
    graph = {name_of(path): dependencies(path, names) for path in modules()}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_an_import_by_name_would_be_seen() -> None:
    main = ROOT / "kconnd/cli/main.py"
    names = {"kconnd.cli.doctor", "kconnd.daemon.main"}
    assert dependencies(main, names) == {"kconnd.cli.doctor"}, "it imports the verbs by name"


def test_no_module_name_and_no_class_name_stands_twice() -> None:
    stems = [path.stem for path in modules() if path.stem not in {"__init__", "main"}]
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in modules()]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    classes = [node.name for node in nodes if isinstance(node, ast.ClassDef)]
    assert not {name for name in stems if stems.count(name) > 1}
    assert not {name for name in classes if classes.count(name) > 1}


def test_a_rule_that_is_broken_would_be_seen() -> None:
    upward = {room_of("kconnd.daemon.kernel.actor"), room_of("kconnd.core.kernel.lifecycle")}
    assert upward == {"kconnd.daemon.kernel", "kconnd.core.kernel"}
    assert FLOORS["kconnd.daemon.kernel"] > FLOORS["kconnd.core.kernel"]


@pytest.mark.parametrize("path", sorted((ROOT / "kconnd/core").rglob("*.py")), ids=name_of)
def test_core_does_no_io_and_has_no_clock(path: Path) -> None:
    for imported in imports(path):
        top = imported.partition(".")[0]
        assert imported == "os.path" or top not in NO_IO, f"{path.name} imports {imported}"
        known = (
            top in STDLIB
            or top == "kconnd"
            or (top == "pydantic" and path.parent.name == "profile")  # it reads what people write
        )
        assert known, f"{path.name} imports {imported}"


@pytest.mark.parametrize("path", sorted((ROOT / "kconnd/cli").glob("*.py")), ids=name_of)
def test_the_command_line_imports_nothing_heavy_before_it_is_needed(path: Path) -> None:
    for imported in imports(path, top_only=True):
        room = room_of(imported)
        package = imported.partition(".")[0]
        own = room is None and package in STDLIB | SPEAKS_TO_KERNELS.get(path.stem, set())
        assert imported.rpartition(".")[2] not in SPEAKS_TO_KERNELS
        allowed = CLI_MAY | {"kconnd.cli"}
        if path.stem in CLI_OF_ITS_OWN:
            allowed |= {room for room in FLOORS if room.startswith("kconnd.system")}
        assert own or room in allowed, f"{path.name} imports {imported}"
    for imported in imports(path):
        assert not (room_of(imported) or "").startswith(("kconnd.daemon", "kconnd.launchers"))


@pytest.mark.parametrize(
    "path",
    [ROOT / "kconnd/programs/shim.py", *sorted((ROOT / "kconnd/programs/zygote").glob("*.py"))],
    ids=name_of,
)
def test_what_runs_elsewhere_imports_nothing_of_ours(path: Path) -> None:
    for imported in imports(path):
        assert imported.partition(".")[0] in STDLIB


def test_jupyter_client_and_traitlets_stay_out_of_the_daemon() -> None:
    code = "import sys, kconnd.daemon.main; print(*sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert not {"jupyter_client", "traitlets", "IPython"} & set(run.stdout.split())
