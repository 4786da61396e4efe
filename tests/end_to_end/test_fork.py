"""Forked kernels: in every respect what a cold start gives, and what happens where none can be.

These differences are deliberate:

- All kernels forked from one zygote have its hash seed and address layout, which are drawn when an
  interpreter starts, and its ``/proc/PID/environ``, which only their owner can read.
  ``os.environ`` is the kernel's own.
- ``gc.get_freeze_count()`` is not 0: the collector leaves alone what was imported and is shared.
- Threads without a name of their own are numbered on from those that the imports made.
- Log records count ``relativeCreated`` from the zygote's import of logging.
- A value that a preloaded module draws or notes at its import is the same in all kernels, except
  for those that `kconnd.programs.zygote.main.renew_identity` renews.
- A file in the kernel's folder that is named like a module of ipykernel's does not take its place.
  In a cold kernel it would, if that module were imported later.
- ``ps`` shows as much of a long command as there is room for.
- The process may be older than the kernel's start, with some milliseconds of processor time: it has
  waited for the start.
"""

import contextlib
import json
import os
import signal
import sqlite3
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from kconnd.system.process.processes import ProcessId, is_alive, send_signal
from tests.conftest import wait_for
from tests.end_to_end import conversation
from tests.end_to_end.daemon import Daemon, client, run, run_on, waiting_cell

PROBE = Path(__file__).with_name("probe.py").read_text(encoding="utf-8")
FORK = f"python: {sys.executable}\nlauncher: fork\n"
COLD = f"python: {sys.executable}\nlauncher: local\n"
MINE = """\
import numpy
square = numpy.ones((600, 600)) @ numpy.ones((600, 600))  # its pool has threads from here on
"""
THREADED = (
    "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n"
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with an IPython configuration, a startup script and modules."""
    folder = tmp_path_factory.mktemp("place")
    startup = folder / "ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "00-first.py").write_text("from_startup = 'yes'\n")
    config = "c.InteractiveShell.ast_node_interactivity = 'all'\n"
    (startup.parent / "ipython_kernel_config.py").write_text(config)
    (folder / "__pycache__").mkdir()  # else it appears when a parent is there, which is replaced
    (folder / "mine.py").write_text(MINE)
    (folder / "threaded.py").write_text(THREADED)
    return folder


@pytest.fixture(scope="module")
def daemon(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """Give one daemon for all tests that leave it as it is."""
    own = f"IPYTHONDIR: {place}/ipython, TZ: Asia/Tokyo, SECRET: s3cret"
    more = "USER: ada, TERM: dumb, GEVENT_SUPPORT: 'True', PYTHONPATH: 'lib:'"
    more += f", TMPDIR: {place}/ipython"
    env = f"env: {{{own}, {more}}}\ncwd: {place}\n"
    with Daemon(Path(os.path.realpath(tmp_path_factory.mktemp("k")))) as found:
        for name in ("forked", "late", "other"):
            found.profile(name, FORK + env)
        found.profile("cold", COLD + env)
        found.profile("mine", f"{FORK}preload: [mine]\nenv: {{PYTHONPATH: {place}}}\n")
        found.profile("threaded", f"{FORK}preload: [threaded]\nenv: {{PYTHONPATH: {place}}}\n")
        found.profile("nothing", f"{FORK}preload: [no_such_module]\n")
        found.profile("bash", f"{FORK}shell: login\n")
        modules = "preload: [numpy.random, multiprocessing.process]\n"
        found.profile("numbers", f"python: {sys.executable}\n{modules}")
        yield found.start()


def start(daemon: Daemon, name: str) -> dict[str, Any]:
    daemon.post(name, "start")
    return daemon.info(name)


def probe(daemon: Daemon, name: str) -> dict[str, Any]:
    printed = run(start(daemon, name)["connection_file"], PROBE)
    found: dict[str, Any] = json.loads(printed.replace(f"kernel-{name}", "kernel-NAME"))
    return found


LAUNCHER = "/ipykernel_launcher.py"


def debuggers_files(found: dict[str, Any]) -> list[str]:
    """Take out what the debugger holds for the kernel's own files: what was imported by then."""
    files: list[str] = found.pop("debuggers_files")
    (launcher,) = {file for file in files if file.endswith(LAUNCHER)}
    assert {*files} - {launcher} <= {*found["module_files"]}
    return files


def waiting(parent: psutil.Process, name: str) -> list[psutil.Process]:
    """List what a parent has forked for kernels to come, by the name that is shown."""
    found = []
    for one in parent.children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it has ended
            if one.cmdline()[:1] == [name]:
                found.append(one)
    return found


def test_a_forked_kernel_is_in_every_detail_what_a_cold_one_is(daemon: Daemon, place: Path) -> None:
    cold = probe(daemon, "cold")
    parent = psutil.Process(start(daemon, "other")["pid"]).parents()[1]  # above the shim
    assert any("zygote" in word for word in parent.cmdline())
    wait_for(lambda: waiting(parent, "kconnd-kernel"), "a child that waits for its plan")
    early = [one.pid for one in waiting(parent, "kconnd-kernel")]
    forked = probe(daemon, "forked")
    for shim in waiting(parent, "kconnd-shim"):
        shim.kill()  # so that the next one has to be forked when it is asked for
        shim.wait(10)
    others = [one.pid for one in parent.children(recursive=True)]
    late = probe(daemon, "late")
    assert daemon.info("forked")["pid"] in early
    assert daemon.info("late")["pid"] not in others
    assert [daemon.info(name)["launcher"] for name in ("forked", "late")] == ["fork"] * 2
    assert daemon.info("cold")["launcher"] == "local"
    for found in (cold, forked, late):
        del found["environ"]["KCONND_KERNEL"]
        assert found["startup"] == "yes"
        assert found["config"]["InteractiveShell"] == {"ast_node_interactivity": "all"}
        assert found["environ"]["SECRET"] == "s3cret"
        assert found["temporary"] == f"{place}/ipython"
        assert found["locale"][1] == ["JST", "JST"]
        assert found["parent"] == 1, "a shim"
        assert found["messages"] == "ada"
        assert f"{place}/lib" in found["path"]
    theirs = debuggers_files(cold)
    assert not theirs[0].endswith(LAUNCHER)
    for found in (forked, late):
        ours = debuggers_files(found)
        assert {*theirs} <= {*ours}
        assert ours[0].endswith(LAUNCHER), "the precomputed files of modules are not used"
        assert found == cold


def test_two_forked_kernels_share_nothing_that_should_differ(daemon: Daemon) -> None:
    code = """
        import random, uuid, secrets, os
        from ipykernel.kernelapp import IPKernelApp
        print([random.random(), str(uuid.uuid4()), secrets.token_hex(),
               IPKernelApp.instance().session.session, os.getsid(0)])
    """
    code = textwrap.dedent(code)
    one, two = (run(start(daemon, name)["connection_file"], code) for name in ("forked", "other"))
    ours, theirs = (text.strip(" []\n").split(", ") for text in (one, two))
    assert len(ours) == 5
    assert not set(ours) & set(theirs)


def test_what_modules_drew_at_their_import_differs_between_forked_kernels(daemon: Daemon) -> None:
    code = (
        "import numpy, multiprocessing as m\n"
        "print(numpy.random.random(), numpy.random.default_rng().random(),"
        " m.current_process().authkey.hex())"
    )
    seen = []
    for name in ("numbers@one", "numbers@two"):
        found = start(daemon, name)
        assert found["launcher"] == "fork", "preload alone asks for it"
        seen += run(found["connection_file"], code).split()
    assert len(set(seen)) == 6


def test_a_thread_pool_that_knows_fork_computes_in_the_child(daemon: Daemon) -> None:
    """Its parent has computed with two threads; the child makes new ones and is right."""
    found = start(daemon, "mine")
    assert (found["launcher"], found["launcher_note"]) == ("fork", None)
    code = """
        import mine, numpy, sys, os
        assert 'mine' in sys.modules
        before = len(os.listdir('/proc/self/task'))
        more = numpy.ones((900, 900)) @ numpy.ones((900, 900))
        print(mine.square[0, 0], more.sum(), len(os.listdir('/proc/self/task')) >= before)
    """
    assert run(found["connection_file"], textwrap.dedent(code)) == "600.0 729000000.0 True\n"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("threaded", "preloading has started 1 threads, which a fork would not have"),
        ("nothing", "preloading no_such_module: ModuleNotFoundError"),
        ("bash", "only ipykernel can be forked, and this runs /bin/"),
    ],
)
def test_what_cannot_be_forked_is_started_cold_and_says_why(
    daemon: Daemon, name: str, why: str
) -> None:
    found = start(daemon, name)
    assert (found["state"], found["launcher"]) == ("running", "local")
    assert found["launcher_note"].startswith(f"not forked: {why}")


def converse(daemon: Daemon, name: str) -> dict[str, Any]:
    file = start(daemon, name)["connection_file"]
    with client(file) as attached:
        found = conversation.have(attached)
    info = json.loads(found["connect_info"].partition("}")[0] + "}")
    assert info == json.loads(Path(file).read_text(encoding="utf-8"))
    text = json.dumps(found).replace(name, "NAME").replace(info["key"], "KEY")
    content: dict[str, Any] = json.loads(text)
    return content


def test_a_client_has_with_a_forked_kernel_what_it_has_with_a_cold_one(daemon: Daemon) -> None:
    cold, forked = converse(daemon, "cold@talk"), converse(daemon, "forked@talk")
    assert forked == cold
    for part in ("spawn [1, 2, 3] s3cret", "from a thread", "from a shell", "returncode=0"):
        assert part in forked["processes"]
    assert forked["headers"][0][1] == "ada"
    assert forked["plot"][0] == "ok"
    assert forked["plot"][1][0] == ["image/png", "text/plain"]
    assert forked["comm"][0]["data"] == {"heard": [1, 2], "opened": {"at": "opening"}}
    assert forked["subshell"] == ["ok", "ok", 1, "ok"]
    assert forked["debugger"][3] == "breakpoint"
    assert forked["debugger"][-3:] == ["20", "ok", "42\n"]


def test_interrupt_and_shutdown(daemon: Daemon, tmp_path: Path) -> None:
    found = start(daemon, "other")
    with client(found["connection_file"]) as attached:
        attached.execute(waiting_cell(tmp_path / "gate"))
        wait_for((tmp_path / "gate").exists, "the cell to run")
        daemon.post("other", "interrupt")
        assert run_on(attached, "print(x)") == "1\n"
    daemon.post("other", "stop")
    assert daemon.wait_state("other", "stopped")["last_exit"]["code"] == 0


# --- survival, exactly as for a cold start; each with a daemon of its own


@pytest.fixture
def lone(folder: Path) -> Iterator[Daemon]:
    with Daemon(folder) as found:
        found.profile("lab", FORK)
        yield found.start()


def parents() -> set[int]:
    """Find the processes that kernels are forked from, among those of this test's session."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if b"kconnd/programs/zygote/" in path.read_bytes():
                found.add(int(path.parent.name))
    return found


def parent_of_shim(daemon: Daemon, name: str) -> int:
    stat = Path(f"/proc/{daemon.shim_of(name).pid}/stat").read_bytes()
    return int(stat.rpartition(b")")[2].split()[1])


def test_open_files_are_what_the_daemon_began_with_or_what_is_asked_for(folder: Path) -> None:
    limited = ("sh", "-c", 'ulimit -S -n 1000; ulimit -H -n 5000; exec "$@"', "sh")
    with Daemon(folder) as daemon:
        daemon.profile("cold", COLD)
        daemon.profile("lab", FORK)
        daemon.profile("few", f"{FORK}limits: {{open_files: 300}}\n")
        daemon.profile("many", f"{FORK}limits: {{open_files: 6000}}\n")
        daemon.start(through=limited)
        code = "import resource; print(resource.getrlimit(resource.RLIMIT_NOFILE))"
        seen = {}
        for name in ("cold", "lab", "few", "many"):
            found = start(daemon, name)
            limits = run(found["connection_file"], code).strip()
            seen[name] = (found["launcher"], limits, found["launcher_note"])
    assert seen == {
        "cold": ("local", "(1000, 5000)", None),
        "lab": ("fork", "(1000, 5000)", None),
        "few": ("fork", "(300, 300)", None),
        "many": (
            "local",
            "(5000, 5000)",
            "not forked: open_files: its zygote may have 5000 at most",
        ),
    }


def test_the_parents_death_takes_no_kernel_with_it(lone: Daemon) -> None:
    found = start(lone, "lab")
    parent = parent_of_shim(lone, "lab")
    assert parent in parents()
    run(found["connection_file"], "kept = 42")
    os.kill(parent, signal.SIGKILL)
    wait_for(lambda: parent not in parents(), "the parent to end")
    assert run(found["connection_file"], "print(kept)") == "42\n"
    again = start(lone, "lab@two")
    assert again["launcher"] == "fork", "from a new parent"


def test_a_killed_daemon_takes_its_parent_along_and_no_kernel(lone: Daemon) -> None:
    found = start(lone, "lab")
    parent = parent_of_shim(lone, "lab")
    run(found["connection_file"], "kept = 42")
    lone.kill()
    wait_for(lambda: parent not in parents(), "the parent to end")
    lone.start()
    after = lone.info("lab")
    assert (after["pid"], after["launcher"]) == (found["pid"], "fork")
    assert run(found["connection_file"], "print(kept)") == "42\n"


def test_exit_code_output_and_descendants_are_a_cold_starts(lone: Daemon) -> None:
    found = start(lone, "lab")
    code = "import subprocess, os\np = subprocess.Popen(['setsid', 'sleep', '1000']); print(p.pid)"
    pid = int(run(found["connection_file"], code))
    stat = Path(f"/proc/{pid}/stat").read_bytes()
    child = ProcessId(pid, int(stat.rpartition(b")")[2].split()[19]))
    with client(found["connection_file"]) as attached:
        attached.execute("os._exit(7)")
        wait_for(lambda: lone.info("lab")["last_exit"], "the exit")
    last = lone.info("lab")["last_exit"]
    assert (last["code"], last["signal"]) == (7, None)
    assert "To connect another client to this kernel" in last["output_tail"]
    wait_for(lambda: not is_alive(child), "what it left to end")
    assert lone.wait_state("lab", "running")["generation"] == 2


def test_a_killed_kernel_is_forked_again_with_its_connection(lone: Daemon) -> None:
    found = start(lone, "lab")
    before = Path(found["connection_file"]).read_bytes()
    os.kill(found["pid"], signal.SIGKILL)
    wait_for(lambda: lone.info("lab")["generation"] == 2, "the restart")
    again = lone.wait_state("lab", "running")
    assert (again["launcher"], again["last_exit"]["signal"]) == ("fork", 9)
    assert Path(again["connection_file"]).read_bytes() == before


def test_a_changed_module_gives_a_fresh_parent_and_leaves_old_kernels(
    lone: Daemon, tmp_path: Path
) -> None:
    module = tmp_path / "own.py"
    module.write_text("answer = 1\n")
    lone.profile("lab", f"{FORK}preload: [own]\nenv: {{PYTHONPATH: {tmp_path}}}\n")
    lone.ask("POST", "/v1/reload")
    old = start(lone, "lab")
    assert run(old["connection_file"], "import own; print(own.answer)") == "1\n"
    module.write_text("answer = 'changed'\n")
    new = start(lone, "lab@new")
    assert new["launcher"] == "fork"
    assert run(new["connection_file"], "import own; print(own.answer)") == "changed\n"
    assert run(old["connection_file"], "print(own.answer)") == "1\n"
    assert f"lab@new: forking it from a new zygote: {module} has changed" in lone.said()


def test_a_kernel_finds_a_module_that_its_parent_has_not_seen_come(
    lone: Daemon, tmp_path: Path
) -> None:
    lone.profile("lab", f"{FORK}env: {{PYTHONPATH: {tmp_path}}}\n")
    lone.ask("POST", "/v1/reload")
    old = start(lone, "lab")
    (tmp_path / "later.py").write_text("answer = 2\n")
    new = start(lone, "lab@new")
    assert run(new["connection_file"], "import later; print(later.answer)") == "2\n"
    parents = {psutil.Process(one["pid"]).parents()[1].pid for one in (old, new)}
    assert len(parents) == 1


def test_a_shim_that_is_killed_leaves_the_kernel(lone: Daemon) -> None:
    found = start(lone, "lab")
    send_signal(lone.shim_of("lab"), signal.SIGKILL)
    assert run(found["connection_file"], "print(1)") == "1\n"
    assert lone.info("lab")["state"] == "running"


def sessions(folder: Path) -> list[tuple[bool, int | None]]:
    """Tell of each session that the history knows whether it has an end, and its cells then."""
    file = folder / "profile_default" / "history.sqlite"
    if not file.exists():
        return []
    with contextlib.closing(sqlite3.connect(file)) as reader:
        return reader.execute("SELECT end IS NOT NULL, num_cmds FROM sessions").fetchall()


def test_the_history_tells_of_a_forked_kernel_that_nobody_used(
    lone: Daemon, tmp_path: Path
) -> None:
    """As it does of a cold one."""
    lone.profile("lab", f"{FORK}env: {{IPYTHONDIR: {tmp_path}}}\n")
    lone.ask("POST", "/v1/reload")
    start(lone, "lab")
    wait_for(lambda: sessions(tmp_path) == [(False, None)], "its session")
    start(lone, "lab@short")
    lone.post("lab@short", "stop")
    lone.post("lab", "stop")
    assert sessions(tmp_path) == [(True, 0), (True, 0)]


@pytest.mark.parametrize("launcher", ["fork", "local"])
def test_the_history_has_all_at_the_end_and_nothing_is_left_behind(
    lone: Daemon, tmp_path: Path, launcher: str
) -> None:
    config = tmp_path / "profile_default" / "ipython_kernel_config.py"
    config.parent.mkdir()
    config.write_text("c.HistoryManager.db_cache_size = 5\n")  # which are written at the end
    (tmp_path / "t").mkdir()
    env = f"env: {{IPYTHONDIR: {tmp_path}, TMPDIR: {tmp_path}/t}}\n"
    lone.profile("lab", f"python: {sys.executable}\nlauncher: {launcher}\n{env}")
    lone.ask("POST", "/v1/reload")
    file = start(lone, "lab")["connection_file"]
    run(file, "kept = 42")
    temporary = run(file, "print(get_ipython().mktempfile())").strip()
    assert Path(temporary).exists()
    lone.post("lab", "stop")
    assert sessions(tmp_path) == [(True, 2)]
    assert not Path(temporary).exists()
    with contextlib.closing(sqlite3.connect(config.with_name("history.sqlite"))) as reader:
        lines = reader.execute("SELECT source FROM history ORDER BY line").fetchall()
    assert lines[0] == ("kept = 42",)
