"""When a parent forks and when it refuses, with something small in the place of ipykernel."""

import asyncio
import contextlib
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from kconnd.core.launch.forking import MIN_REFUSAL_S, exec_time
from kconnd.core.launch.plan import LaunchPlan
from kconnd.launchers.base import Handle
from kconnd.launchers.confinement import Confinement
from kconnd.launchers.fork import MAX_ZYGOTES, ForkLauncher
from kconnd.launchers.zygote_process import BURST_INTERVAL_S, StaleError, ZygoteTimeouts
from kconnd.programs.zygote import main as zygote
from kconnd.programs.zygote import staleness
from tests.launchers.fake import FakeLauncher, files_in

WaitUntil = Callable[..., Awaitable[None]]
SOUND = "version_info = (7, 0)\n__version__ = '7.0'\n"
OLD = "version_info = (6, 28)\n__version__ = '6.28'\n"
THREAD = "import threading\nthreading.Thread(target=threading.Event().wait).start()\n"
# Internals of other versions, in which nothing that is computed ahead of time can be used.
CHANGED_PARSING = """
import sys, types
class IPKernelApp:
    def parse_command_line(self): self.parse_in_another_way()
sys.modules["ipykernel.kernelapp"] = types.SimpleNamespace(IPKernelApp=IPKernelApp)
"""
CHANGED_DEBUGGER = """
import sys, types
class IPythonKernel:
    def __init__(self): self._kernel_modules = None
sys.modules["ipykernel.ipkernel"] = types.SimpleNamespace(IPythonKernel=IPythonKernel)
"""
UNNAMED_MODULE = "import sys\nsys.modules[7] = sys\n"
USER_SITE = f"user/lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
# Imports what a parent does, and prints what of the environment is read meanwhile.
WATCHING = """\
import json, os, sys
sys.path.insert(0, sys.argv[1])
from kconnd.programs.zygote import imports
read = set()
real = os._Environ.__getitem__
def watching(self, name):
    read.add(os.fsdecode(name))
    return real(self, name)
os._Environ.__getitem__ = watching
imports.import_all([])
print(json.dumps(sorted(read)))
"""


class Parents:
    """A launcher whose parents import a small ipykernel.

    Parameters
    ----------
    folder : Path
        For its modules and files.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.modules = folder, folder / "modules"
        self.modules.mkdir()
        self.write("ipykernel", SOUND)
        self.write("ipykernel_launcher", "raise SystemExit(3)\n")
        self.cold = FakeLauncher()
        self.preload: tuple[str, ...] = ()
        self.now = 1000.0
        self.wait_for_at_most(20, 20)

    def write(self, module: str, text: str) -> None:
        (self.modules / f"{module}.py").write_text(text)

    def wait_for_at_most(self, importing: float, answering: float) -> None:
        timeouts = ZygoteTimeouts(importing, answering, lambda: self.now)
        self.launcher = ForkLauncher(self.folder, self.cold, timeouts=timeouts)

    async def launch(self, name: str = "k") -> Handle:
        return await self.launcher.launch(
            replace(plan(self.folder, name=name), preload=self.preload)
        )

    async def why_not(self) -> str:
        """Launch, and give why it was not forked."""
        handle = await self.launch()
        assert handle.launcher == "fake"
        return handle.note.removeprefix("not forked: ")

    async def code(self, handle: Handle) -> int | None:
        assert (handle.launcher, handle.note) == ("fork", "")
        return (await self.launcher.wait(handle)).code

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        """The one parent that there is."""
        (parent,) = self.launcher._zygotes.values()
        return parent._process


@pytest.fixture
async def parents(tmp_path: Path) -> AsyncIterator[Parents]:
    found = Parents(tmp_path)
    yield found
    found.launcher.close()


def plan(folder: Path, *, python: str = sys.executable, name: str = "k", **env: str) -> LaunchPlan:
    return LaunchPlan(
        name=name,
        generation=1,
        argv=(python, "-S", "-m", "ipykernel_launcher"),
        env={"PYTHONPATH": str(folder / "modules"), **env},
        cwd="/",
        files=files_in(
            folder, **{kind: f"{name}.{kind}" for kind in ("log", "facts", "exit", "lock")}
        ),
    )


@pytest.mark.parametrize(
    ("ipykernel", "why"),
    [
        (OLD, "ipykernel 6.28 is older than 6.29"),
        ("raise ImportError('half of it is missing')", "importing ipykernel: half of it"),
        ("raise SystemExit(3)", "importing ipykernel: 3"),
        ("import os; os._exit(9)", "its zygote exited with status 9 while importing"),
        ("import os; os.kill(os.getpid(), 9)", "its zygote exited with status -9 while importing"),
        (SOUND + THREAD, "preloading has started 1 threads"),
        # It says no and would never end by itself.
        (OLD + THREAD + "import os\nos._exit = threading.Event().wait\n", "ipykernel 6.28 is"),
        (
            SOUND + "import os, errno\n"
            "def fork(): raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))\n"
            "os.fork = fork\n",
            "forking: Resource temporarily unavailable",
        ),
    ],
)
async def test_what_cannot_be_forked_is_launched_cold_and_the_handle_says_why(
    parents: Parents, wait_until: WaitUntil, ipykernel: str, why: str
) -> None:
    parents.write("ipykernel", ipykernel)
    for _ in range(2):  # what was refused once is known the next time
        assert (await parents.why_not()).startswith(why)
    await wait_until(lambda: parents.process.poll() is not None, "what refused to end")


@pytest.mark.parametrize("name", ["logging", "fnmatch", "contextvars"])
async def test_a_module_that_is_broken_is_told_of_though_we_use_it_too(
    parents: Parents, name: str
) -> None:
    parents.write(name, "raise ImportError('it is broken')\n")
    parents.write("ipykernel", f"import {name}\n")
    assert await parents.why_not() == "importing ipykernel: it is broken"


def test_a_parent_that_refuses_ends_by_itself_whatever_threads_it_has(tmp_path: Path) -> None:
    (tmp_path / "ipykernel.py").write_text(SOUND + THREAD)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        command = [sys.executable, "-S", zygote.__file__, str(theirs.fileno())]
        env = {"PYTHONPATH": str(tmp_path)}
        process = subprocess.Popen(command, pass_fds=[theirs.fileno()], env=env)
        try:
            assert "refused" in json.loads(ours.recv(zygote.MAX_MESSAGE_BYTES))
            assert process.wait(20) == 1
        finally:
            process.kill()
            process.wait()


def test_what_modules_read_of_the_environment_at_their_import_makes_another_parent() -> None:
    above = str(Path(zygote.__file__).parents[3])
    command = [sys.executable, "-c", WATCHING, above]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    read = json.loads(done.stdout)
    assert {"USER", "TERM", "PYDEVD_USE_CYTHON"} <= set(read), "it is seen at all"
    kept = dict(exec_time(dict.fromkeys(read, "x"), whole=False))
    assert sorted(kept) == read


async def test_an_interpreter_that_is_not_there_is_no_parent(tmp_path: Path) -> None:
    launcher = ForkLauncher(tmp_path, FakeLauncher())
    handle = await launcher.launch(plan(tmp_path, python="/nowhere/python"))
    assert handle.note == "not forked: running /nowhere/python: No such file or directory"


async def test_parents_are_few_and_each_has_one_environment(tmp_path: Path) -> None:
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "ipykernel.py").write_text(SOUND)
    launcher = ForkLauncher(tmp_path, FakeLauncher())
    for number in range(MAX_ZYGOTES + 2):
        await launcher.prepare(plan(tmp_path, LC_ALL=f"C.{number}", OTHER="same"))
    await launcher.prepare(plan(tmp_path, LC_ALL="C.9", OTHER="another"))
    assert len(launcher._zygotes) == MAX_ZYGOTES
    launcher.close()


async def test_a_parent_that_does_not_get_ready_is_ended_and_told_of(
    parents: Parents, wait_until: WaitUntil
) -> None:
    parents.wait_for_at_most(0.5, 20)
    parents.write("ipykernel", "import threading\nthreading.Event().wait()\n")
    assert await parents.why_not() == "its zygote was not ready within 0.5 s"
    await wait_until(lambda: parents.process.poll() is not None, "it to end")


async def test_the_exit_code_is_known_of_a_kernel_that_ends_before_its_shim_looks(
    parents: Parents, tmp_path: Path, wait_until: WaitUntil
) -> None:
    os.mkfifo(tmp_path / "k.log")  # to open it for writing takes a reader
    handle = await parents.launch()
    state = Path(f"/proc/{handle.kernel.pid}/stat")
    await wait_until(
        lambda: not state.exists() or b") Z" in state.read_bytes(), "the kernel to end"
    )
    reader = os.open(tmp_path / "k.log", os.O_RDONLY | os.O_NONBLOCK)
    assert await parents.code(handle) == 3
    os.close(reader)


@pytest.mark.parametrize(
    ("before", "preload", "why", "after"),
    [
        ({}, "mine", "preloading mine: ModuleNotFoundError", {"mine": ""}),
        ({"mine": "x = ("}, "mine", "preloading mine: SyntaxError", {"mine": "x = 1 # right"}),
        ({"mine": "1 / 0"}, "mine", "preloading mine: ZeroDivision", {"mine": "1 / 1 # right"}),
        (
            {"mine": "import other", "other": "import nothing"},
            "mine",
            "preloading mine: ModuleNotFoundError",
            {"other": "import sys"},
        ),
        ({"mine": THREAD}, "mine", "preloading has started 1 threads", {"mine": ""}),
        ({"pack/__init__": ""}, "pack.sub", "preloading pack.sub: Mod", {"pack/sub": ""}),
        ({"ipykernel": OLD}, "", "ipykernel 6.28 is older", {"ipykernel": SOUND}),
    ],
)
async def test_a_refusal_ends_with_what_it_came_from(
    parents: Parents, before: dict[str, str], preload: str, why: str, after: dict[str, str]
) -> None:
    parents.preload = (preload,) if preload else ()
    (parents.modules / "pack").mkdir()
    for module, text in before.items():
        parents.write(module, text)
    for _ in range(2):
        assert (await parents.why_not()).startswith(why)
    refused = parents.process
    assert (await parents.why_not()).startswith(why)
    assert parents.process is refused, "it is not tried again in vain"
    for module, text in after.items():
        parents.write(module, text)
    assert await parents.code(await parents.launch()) == 3


@pytest.mark.parametrize(
    ("trouble", "why"),
    [
        ("threading.Event().wait()", "its zygote was not ready within 3 s"),
        ("os.kill(os.getpid(), 9)", "its zygote exited with status -9 while importing"),
        ("raise OSError('no answer')", "importing ipykernel: no answer"),
    ],
)
async def test_trouble_that_leaves_nothing_on_disk_is_held_against_a_parent_for_a_while(
    parents: Parents, tmp_path: Path, trouble: str, why: str
) -> None:
    parents.wait_for_at_most(3, 20)
    sign = tmp_path / "passed"
    parents.write(
        "ipykernel",
        f"{SOUND}import os, threading\nif not os.path.exists({str(sign)!r}): {trouble}\n",
    )
    assert await parents.why_not() == why
    sign.touch()
    parents.now += MIN_REFUSAL_S - 1
    assert await parents.why_not() == why
    parents.now += 1
    assert await parents.code(await parents.launch()) == 3


async def test_many_starts_at_once_after_a_change_all_fork_from_a_new_parent(
    parents: Parents,
) -> None:
    assert await parents.code(await parents.launch()) == 3
    for number in range(3):
        before = parents.process.pid
        parents.write("ipykernel", f"{SOUND}# {number}\n")
        names = [f"k{one}" for one in range(12)]
        handles = await asyncio.gather(*map(parents.launch, names))
        assert [await parents.code(handle) for handle in handles] == [3] * 12
        assert parents.process.pid != before


def test_a_look_serves_those_who_asked_before_it_and_what_has_changed_stays_so(
    tmp_path: Path,
) -> None:
    place = tmp_path / "module.py"
    earlier = time.monotonic_ns()
    watch = staleness.DiskSnapshot([str(place)], staleness.OwnFolders([], []))
    place.touch()
    assert watch.changed(earlier) is None  # it was not there when the look began, which is later
    assert watch.changed(time.monotonic_ns()) == str(place)
    assert watch.changed(earlier) == str(place)  # a parent that is stale is of no use to anybody
    place.unlink()
    assert watch.changed(time.monotonic_ns()) == str(place)


def files_of(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("# changed\n")


@pytest.mark.parametrize(
    ("changed", "change"),
    [
        ("more-packages", lambda place: files_of(place / "more-packages", "new.py")),
        ("later", lambda place: (place / "later").mkdir()),
        ("user/lib/", lambda place: files_of(place / USER_SITE, "new.py")),
        ("preloaded.py", lambda place: files_of(place, "more-packages/preloaded.py")),
        ("inner.py", lambda place: files_of(place, "more-packages/pack/inner.py")),
        ("some.pth", lambda place: files_of(place, "more-packages/some.pth")),
        ("pyvenv.cfg", lambda place: files_of(place, "venv/pyvenv.cfg")),
        ("python", lambda place: swap(place / "venv" / "bin" / "python")),
        ("modules", lambda place: files_of(place, "modules/preloaded.py")),
        ("modules", lambda place: files_of(place, "modules/nowhere/__init__.py")),
        ("modules", lambda place: files_of(place, "modules/new-1.0.dist-info/METADATA")),
    ],
)
async def test_whatever_a_start_would_find_otherwise_takes_another_parent(
    tmp_path: Path, changed: str, change: Callable[[Path], None]
) -> None:
    parents = Parents(tmp_path)
    python = venv(tmp_path / "venv")
    packages = tmp_path / "more-packages"
    files_of(packages, "preloaded.py", "some.pth", "pack/__init__.py", "pack/inner.py")
    (packages / "preloaded.py").write_text(
        "import pack.inner\ntry:\n    import nowhere\nexcept ImportError:\n    pass\n"
    )
    path = ":".join(str(tmp_path / name) for name in ("modules", "more-packages", "later"))
    asked = plan(tmp_path, PYTHONPATH=path, PYTHONUSERBASE=str(tmp_path / "user"))
    asked = replace(asked, argv=(str(python), "-m", "ipykernel_launcher"), preload=("preloaded",))
    assert await parents.code(await parents.launcher.launch(asked)) == 3
    before = parents.process.pid
    assert await parents.code(await parents.launcher.launch(asked)) == 3
    assert parents.process.pid == before
    change(tmp_path)
    (parent,) = parents.launcher._zygotes.values()
    nothing = os.open(os.devnull, os.O_RDONLY)
    with pytest.raises(StaleError, match=f"{changed}.* has changed"):
        parent.fork(time.monotonic_ns(), (nothing,) * 3, confines=False)
    os.close(nothing)
    assert await parents.code(await parents.launcher.launch(asked)) == 3
    assert parents.process.pid != before
    parents.launcher.close()


def test_a_change_at_the_same_time_as_the_one_before_is_seen(tmp_path: Path) -> None:
    """As the clock of a file system counts, which may tick once in some milliseconds."""
    files_of(tmp_path, "data.csv")
    own = staleness.OwnFolders([str(tmp_path)], ["json"])
    about = tmp_path.stat()
    for name in ("notes.txt", "json.py"):
        assert own.changed() is None
        files_of(tmp_path, name)
        os.utime(tmp_path, ns=(about.st_atime_ns, about.st_mtime_ns))
    assert own.changed() == str(tmp_path)


async def test_a_preload_that_makes_another_list_of_finders_is_forked(parents: Parents) -> None:
    parents.preload = ("odd",)
    parents.write(
        "odd", "import sys\nsys.meta_path[:] = sys.meta_path[:-1]\nsys.modules[7] = sys\n"
    )
    assert await parents.code(await parents.launch()) == 3


@pytest.mark.parametrize(
    ("changed", "skipped"),
    [
        (
            CHANGED_PARSING,
            (
                "precompute.CommandLine: LookupError('ipykernel.IPKernelApp.parse_command_line does"
                " not use _classes_with_config_traits, _create_loader, flatten_flags')"
            ),
        ),
        (
            CHANGED_DEBUGGER,
            (
                "precompute.ModuleFiles: LookupError('ipykernel.IPythonKernel.__init__ does not"
                " use copy, modules, sys')"
            ),
        ),
        (
            UNNAMED_MODULE,
            "heap_layout.gather_module_names: 'int' object has no attribute 'encode'",
        ),
    ],
)
async def test_an_optimization_that_no_longer_applies_is_skipped_and_logged(
    parents: Parents, caplog: pytest.LogCaptureFixture, changed: str, skipped: str
) -> None:
    parents.write("ipykernel", SOUND + changed)
    assert await parents.code(await parents.launch()) == 3
    line = f"zygote of {sys.executable}: skipped {skipped}; its kernels work, but start slower"
    (logged,) = [text for text in caplog.messages if text.startswith(line)]
    assert logged.endswith("or take more memory")


@pytest.mark.parametrize(
    ("later", "ahead"),
    [
        (BURST_INTERVAL_S, contextlib.nullcontext()),
        (BURST_INTERVAL_S / 2, pytest.raises(StaleError)),
    ],
    ids=["one", "of many"],
)
async def test_the_disk_is_looked_at_for_a_kernel_whose_plan_is_being_made(
    parents: Parents, later: float, ahead: contextlib.AbstractContextManager[object]
) -> None:
    """Where it is not one of many, of which each is asked for soon enough."""
    earlier = time.monotonic_ns()
    assert await parents.code(await parents.launch()) == 3
    (parent,) = parents.launcher._zygotes.values()
    parents.now += later
    asked = time.monotonic_ns()
    parents.launcher.expect(asked)
    nothing = os.open(os.devnull, os.O_RDONLY)
    parent.fork(earlier, (nothing,) * 3, confines=False)  # so it has heard all before
    parents.write("ipykernel", f"{SOUND}# changed\n")
    with ahead:
        parent.fork(asked, (nothing,) * 3, confines=False)
    with pytest.raises(StaleError):
        parent.fork(time.monotonic_ns(), (nothing,) * 3, confines=False)
    os.close(nothing)


async def test_what_no_start_would_import_may_come_and_go_in_a_folder_of_ones_own(
    parents: Parents,
) -> None:
    """Such as that of a project, which an editable installation has on the path."""
    assert await parents.code(await parents.launch()) == 3
    before = parents.process.pid
    files_of(parents.modules, "data.csv", "notes/plan.md", "later.py", "jso.py")
    for _ in range(2):
        assert await parents.code(await parents.launch()) == 3
        (parents.modules / "data.csv").unlink(missing_ok=True)
    assert parents.process.pid == before


def venv(folder: Path) -> Path:
    """Make what a virtual environment without packages is."""
    (folder / "bin").mkdir(parents=True)
    home = Path(sys.base_prefix) / "bin"
    text = f"home = {home}\ninclude-system-site-packages = true\n"
    (folder / "pyvenv.cfg").write_text(text)
    python = folder / "bin" / "python"
    python.symlink_to(home / "python3")
    return python


def swap(python: Path) -> None:
    """Have a link lead to another interpreter, here to a copy of the same."""
    copy = python.with_name("another")
    shutil.copy(python, copy)
    python.unlink()
    python.symlink_to(copy)


async def test_a_parent_that_died_is_replaced(parents: Parents) -> None:
    assert await parents.code(await parents.launch()) == 3
    parents.process.kill()
    assert await parents.code(await parents.launch()) == 3


async def test_a_parent_that_does_not_answer_is_ended_and_its_work_done_by_another(
    parents: Parents, wait_until: WaitUntil
) -> None:
    parents.wait_for_at_most(20, 2)
    assert await parents.code(await parents.launch()) == 3
    silent = parents.process
    os.kill(silent.pid, signal.SIGSTOP)
    assert await parents.code(await parents.launch()) == 3
    assert parents.process is not silent
    await wait_until(lambda: silent.poll() is not None, "it to be ended: it would fork later")


async def test_a_fork_that_fails_is_told_and_the_parent_goes_on(
    parents: Parents, wait_until: WaitUntil
) -> None:
    full = parents.folder / "full"
    parents.write(
        "ipykernel",
        f"{SOUND}import __main__, ctypes, errno, os\n"
        "real = __main__.FORK\n"
        "def fork():\n"
        f"    if os.path.exists({str(full)!r}):\n"
        "        ctypes.set_errno(errno.EAGAIN)\n"
        "        return -1\n"
        "    return real()\n"
        "__main__.FORK = fork\n",
    )
    assert await parents.code(await parents.launch()) == 3
    before = parents.process.pid
    full.touch()
    if (first := await parents.launch()).launcher == "fork":  # it got the shim that was spare
        assert await parents.code(first) == 3
    assert await parents.why_not() == "forking: Resource temporarily unavailable"
    full.unlink()
    await a_spare(parents, wait_until)
    assert await parents.code(await parents.launch()) == 3
    assert parents.process.pid == before


async def test_a_spare_shim_is_there_for_the_next_kernel(
    parents: Parents, wait_until: WaitUntil
) -> None:
    assert await parents.code(await parents.launch()) == 3
    spare = await a_spare(parents, wait_until)
    handle = await parents.launch()
    assert handle.shim.pid == spare
    assert await parents.code(handle) == 3


async def test_a_spare_shim_that_died_is_no_loss(parents: Parents, wait_until: WaitUntil) -> None:
    assert await parents.code(await parents.launch()) == 3
    spare = await a_spare(parents, wait_until)
    os.kill(spare, signal.SIGKILL)
    await wait_until(lambda: not is_there(spare), "it to be gone")
    assert await parents.code(await parents.launch()) == 3


async def test_the_child_of_a_spare_shim_becomes_the_kernel(
    parents: Parents, wait_until: WaitUntil
) -> None:
    parents.write("ipykernel_launcher", "import signal; signal.alarm(100); signal.pause()\n")
    first = await parents.launch()
    child = await a_spare_child(parents, wait_until)
    asked = replace(plan(parents.folder, name="l"), limits={"open_files": 123})
    second = await parents.launcher.launch(asked)
    assert second.kernel.pid == child
    assert resource.prlimit(child, resource.RLIMIT_NOFILE)[0] == 123
    shown = psutil.Process(child).cmdline
    await wait_until(lambda: shown()[:4] == list(asked.argv), "it to be shown as the kernel")
    for one in (first, second):
        os.kill(one.kernel.pid, signal.SIGKILL)
        assert (await parents.launcher.wait(one)).signal == signal.SIGKILL


async def test_an_early_child_copies_the_memory_that_the_kernel_before_it_has_copied(
    parents: Parents, wait_until: WaitUntil
) -> None:
    size_bytes, written = 8 << 20, parents.folder / "written"
    parents.write(
        "ipykernel",
        f"{SOUND}import __main__, os, time\n"
        f"DATA = bytearray(b'x') * {size_bytes}\n"
        "prepare_spare = __main__.ForkServer.prepare_spare\n"
        "def wait_and_prepare(server):\n"
        f"    while server.latest and not os.path.exists({str(written)!r}):\n"
        "        time.sleep(0.01)\n"
        "    prepare_spare(server)\n"
        "__main__.ForkServer.prepare_spare = wait_and_prepare\n",
    )
    parents.write(
        "ipykernel_launcher",
        "import ipykernel, signal\n"
        "ipykernel.DATA[:] = bytes(len(ipykernel.DATA))\n"
        f"open({str(written)!r}, 'w').close()\n"
        "signal.alarm(100); signal.pause()\n",
    )
    await parents.launcher.prepare(plan(parents.folder))
    assert own_bytes(await a_spare_child(parents, wait_until)) < size_bytes
    first = await parents.launch()
    child = await a_spare_child(parents, wait_until)
    await wait_until(lambda: own_bytes(child) >= size_bytes, "it to have copied that memory")
    os.kill(first.kernel.pid, signal.SIGKILL)
    assert (await parents.launcher.wait(first)).signal == signal.SIGKILL


def own_bytes(pid: int) -> int:
    """Return the size of the memory that a process shares with no other one."""
    info = psutil.Process(pid).memory_full_info()
    return int(info.uss)


async def test_an_early_child_that_died_is_no_loss(parents: Parents, wait_until: WaitUntil) -> None:
    assert await parents.code(await parents.launch()) == 3
    child = await a_spare_child(parents, wait_until)
    os.kill(child, signal.SIGKILL)
    await wait_until(lambda: not is_there(child), "it to be gone")
    assert await parents.code(await parents.launch()) == 3


async def test_an_early_child_that_was_stopped_is_not_waited_for(
    parents: Parents, wait_until: WaitUntil
) -> None:
    assert await parents.code(await parents.launch()) == 3
    child = await a_spare_child(parents, wait_until)
    os.kill(child, signal.SIGSTOP)
    await wait_until(lambda: psutil.Process(child).status() == psutil.STATUS_STOPPED, "it to stop")
    handle = await parents.launch()
    assert handle.kernel.pid != child
    assert await parents.code(handle) == 3
    await wait_until(lambda: not is_there(child), "it to be ended with what the kernel left")


class Elsewhere:
    """Puts each shim elsewhere, as far as it says."""

    def needs_scope(self, _plan: LaunchPlan) -> bool:
        return True

    def confine(self, plan: LaunchPlan, _shim: int) -> Confinement:
        return Confinement(plan.limits)


async def test_an_early_child_is_not_used_where_its_shim_is_put_elsewhere(
    parents: Parents, wait_until: WaitUntil
) -> None:
    parents.launcher = ForkLauncher(parents.folder, parents.cold, Elsewhere())
    await parents.launcher.prepare(plan(parents.folder))
    child = await a_spare_child(parents, wait_until)
    handle = await parents.launch()
    assert handle.kernel.pid != child
    assert await parents.code(handle) == 3
    assert not is_there(child)
    spare = psutil.Process(await a_spare(parents, wait_until))
    assert not spare.children()


async def test_a_daemon_may_have_many_files_open(parents: Parents, wait_until: WaitUntil) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, before[1]))
    many = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]  # beyond what select(2) takes
    try:
        for _ in range(2):
            assert await parents.code(await parents.launch()) == 3
            await a_spare(parents, wait_until)
    finally:
        for one in many:
            os.close(one)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def test_a_spare_shim_ends_with_its_parent(parents: Parents, wait_until: WaitUntil) -> None:
    assert await parents.code(await parents.launch()) == 3
    child = await a_spare_child(parents, wait_until)
    spare = await a_spare(parents, wait_until)
    parents.process.kill()
    await wait_until(lambda: not (is_there(spare) or is_there(child)), "both to be gone")


async def a_spare(parents: "Parents", wait_until: WaitUntil) -> int:
    """Wait until the parent has forked a shim that nobody has asked for; gives its pid."""
    found: list[int] = []

    def look() -> bool:
        children = psutil.Process(parents.process.pid).children()
        found[:] = [one.pid for one in children if one.cmdline()[:1] == ["kconnd-shim"]]
        return bool(found)

    await wait_until(look, "a spare shim")
    return found[0]


async def a_spare_child(parents: "Parents", wait_until: WaitUntil) -> int:
    """Wait until that has a child that waits for a plan; gives its pid."""
    spare = psutil.Process(await a_spare(parents, wait_until))
    await wait_until(
        lambda: [one.cmdline()[:1] for one in spare.children()] == [["kconnd-kernel"]], "its child"
    )
    (child,) = spare.children()
    return child.pid


def is_there(pid: int) -> bool:
    """Tell whether there is such a process; who was its parent's may become another's zombie."""
    with contextlib.suppress(psutil.Error):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False
