"""Kernels that kconnd launched, put to the test of Jupyter's own kernel tests.

Each is the suite of jupyter_kernel_test, run against a kernel that the daemon started from
its installed kernel spec. Those of other languages are tested where they are installed.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import jupyter_kernel_test
import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_core.paths import jupyter_path

from tests.conftest import wait_for
from tests.end_to_end.daemon import Daemon, begin, client, run_on

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:jupyter_kernel_test")


def installed(name: str) -> bool:
    return any((Path(root) / name).is_dir() for root in jupyter_path("kernels"))


class OnKconnd:
    """Replaces the start and end of a kernel by kconnd's; a base for the suites below."""

    profile: ClassVar[str]  # the YAML of it
    spec: ClassVar[str] = ""  # where it has to be installed
    program: ClassVar[str] = ""  # the same
    env: ClassVar[dict[str, str]] = {}
    daemon: ClassVar[Daemon]
    kc: ClassVar[BlockingKernelClient]

    @classmethod
    def setUpClass(cls) -> None:
        if cls.spec and not installed(cls.spec) and not cls.env:
            raise unittest.SkipTest(f"the kernel spec {cls.spec} is not installed here")
        if cls.program and not shutil.which(cls.program):
            raise unittest.SkipTest(f"{cls.program} is not installed here")
        folder = Path(tempfile.mkdtemp(prefix="kt-", dir="/tmp"))
        cls.daemon = Daemon(folder)
        cls.daemon.profile("tested", cls.profile)
        cls.daemon.start(env={**os.environ, **cls.env})
        found = cls.daemon.post("tested", "start")
        cls.kc = BlockingKernelClient(connection_file=found["connection_file"])
        cls.kc.load_connection_file()
        cls.kc.start_channels()
        cls.kc.wait_for_ready(timeout=60)

    @classmethod
    def tearDownClass(cls) -> None:
        cls.kc.stop_channels()
        cls.daemon.__exit__(None, None, None)
        shutil.rmtree(cls.daemon.folder, ignore_errors=True)


class PythonSuite(OnKconnd):
    language_name = "python"
    file_extension = ".py"
    code_hello_world = "print('hello, world')"
    code_stderr = "import sys; print('test', file=sys.stderr)"
    completion_samples: ClassVar = [{"text": "zi", "matches": {"zip"}}]
    complete_code_samples: ClassVar = ["1", "print('hello, world')", "def f(x):\n  return x*2\n\n"]
    incomplete_code_samples: ClassVar = ["print('''hello", "def f(x):\n  x*2"]
    code_page_something = "zip?"
    code_generate_error = "raise"
    code_execute_result: ClassVar = [{"code": "1+2+3", "result": "6"}]
    code_display_data: ClassVar = [
        {
            "code": "from IPython.display import HTML, display; display(HTML('<b>x</b>'))",
            "mime": "text/html",
        }
    ]
    code_inspect_sample = "zip"


class TestIpykernelCold(PythonSuite, jupyter_kernel_test.KernelTests):
    profile = f"python: {sys.executable}\nlauncher: local\n"
    code_history_pattern = "1?2*"
    supported_history_operations: ClassVar = ("tail", "search")
    code_clear_output = "from IPython.display import clear_output; clear_output()"


class TestIpykernelForked(PythonSuite, jupyter_kernel_test.KernelTests):
    profile = f"python: {sys.executable}\nlauncher: fork\n"
    code_history_pattern = "1?2*"
    supported_history_operations: ClassVar = ("tail", "search")
    code_clear_output = "from IPython.display import clear_output; clear_output()"

    def test_it_was_forked(self) -> None:
        assert self.daemon.info("tested")["launcher"] == "fork"


class TestXeusPython(PythonSuite, jupyter_kernel_test.KernelTests):
    profile = "kernel: xpython\n"
    spec = "xpython"


class TestBash(OnKconnd, jupyter_kernel_test.KernelTests):
    profile = f"argv: [{sys.executable}, -m, bash_kernel, -f, '{{connection_file}}']\n"
    language_name = "bash"
    file_extension = ".sh"
    code_hello_world = "echo hello, world"
    completion_samples: ClassVar = [{"text": "fals", "matches": {"false"}}]


@pytest.mark.languages
class TestIRkernel(OnKconnd, jupyter_kernel_test.KernelTests):
    profile = "kernel: ir\n"
    spec = "ir"
    language_name = "R"
    file_extension = ".r"
    code_hello_world = 'print("hello, world")'
    completion_samples: ClassVar = [{"text": "zi", "matches": {"zip"}}]
    complete_code_samples: ClassVar = ["1", "print('hello, world')", "f <- function(x) {x*2}"]
    incomplete_code_samples: ClassVar = ["f <- function(x) {x"]
    code_generate_error = "raise"
    code_display_data: ClassVar = [{"code": '"a"', "mime": "text/plain"}]


@pytest.mark.languages
class TestOctave(OnKconnd, jupyter_kernel_test.KernelTests):
    profile = "kernel: octave\n"
    spec = "octave"
    program = "octave"
    language_name = "octave"
    file_extension = ".m"
    code_hello_world = "disp('hello, world')"
    complete_code_samples: ClassVar = ["1", "disp('hello, world')"]
    incomplete_code_samples: ClassVar = ["for n = 1:3"]
    completion_samples: ClassVar = [{"text": "hadam", "matches": {"hadamard"}}]
    code_inspect_sample = "zeros"
    code_page_something = "zeros?"


@pytest.mark.languages
class TestDeno(OnKconnd, jupyter_kernel_test.KernelTests):
    profile = "kernel: deno\n"
    spec = "deno"
    language_name = "typescript"
    file_extension = ".ts"
    code_hello_world = 'console.log("hello, world")'
    code_stderr = 'console.error("test")'
    code_generate_error = 'throw new Error("oops")'
    completion_samples: ClassVar = [{"text": "Number.isI", "matches": {"isInteger"}}]
    complete_code_samples: ClassVar = ["1", 'console.log("hello, world")']
    incomplete_code_samples: ClassVar = ["function f() {"]

    @classmethod
    def setUpClass(cls) -> None:
        deno = shutil.which("deno") or str(Path(sys.executable).with_name("deno"))
        if not Path(deno).exists():
            raise unittest.SkipTest("deno is not installed here")
        home = tempfile.mkdtemp(prefix="kt-", dir="/tmp")
        cls.addClassCleanup(shutil.rmtree, home, ignore_errors=True)
        env = {**os.environ, "HOME": home}
        subprocess.run([deno, "jupyter", "--install"], env=env, check=True, capture_output=True)
        cls.env = {"JUPYTER_PATH": f"{home}/.local/share/jupyter"}
        super().setUpClass()

    def execute_helper(self, code: str, *args: Any, **how: Any) -> tuple[Any, list[Any]]:
        """Also take what Deno has printed and sends after the cell's end, as it may."""
        reply, output = super().execute_helper(code, *args, **how)
        if code in {self.code_hello_world, self.code_stderr} and not output:
            output.append(self.kc.get_iopub_msg(timeout=jupyter_kernel_test.TIMEOUT))
        return reply, output


@pytest.fixture
def daemon(home: Path) -> Iterator[Daemon]:
    """Give a daemon that is not started yet."""
    with Daemon(home) as found:
        yield found


KERNELS = {
    "ipykernel": (f"python: {sys.executable}\n", "print(1)\nwhile 1: pass", "print(6 * 7)", "42"),
    "bash": (TestBash.profile, "echo 1; sleep 60", "echo $((6 * 7))", "42"),
    # Not xeus-python: its wheel (0.19) is not interrupted by jupyter_client either.
    "ir": ("kernel: ir\n", "cat(1)\nSys.sleep(60)", "cat(6 * 7)", "42"),
}


@pytest.mark.parametrize("name", KERNELS)
def test_an_interrupt_and_the_fields_of_info(daemon: Daemon, name: str) -> None:
    profile, endless, asking, answer = KERNELS[name]
    if name == "ir" and not installed(name):
        pytest.skip(f"the kernel spec {name} is not installed here")
    daemon.profile("tested", profile)
    daemon.start()
    found = daemon.post("tested", "start")
    assert found["language"].lower() in {"python", "bash", "r"}
    assert found["state"] == "running"
    with client(found["connection_file"]) as attached:
        told = attached.kernel_info(reply=True, timeout=30)["content"]
        for key in ("implementation", "implementation_version", "protocol_version"):
            assert found[key] == (told.get(key) or None)
        assert found["language_version"] == told["language_info"].get("version")
        begin(attached, endless)
        wait_for(lambda: daemon.info("tested")["execution_state"] == "busy", "it to be told")
        daemon.post("tested", "interrupt")
        wait_for(lambda: daemon.info("tested")["execution_state"] == "idle", "it to stop")
        assert run_on(attached, asking).strip() == answer
        wait_for(lambda: daemon.info("tested")["clients"] == 1, "its client to be counted")


def test_an_interrupt_by_message(daemon: Daemon) -> None:
    """The way of a kernel whose spec says ``interrupt_mode: message``."""
    spec = daemon.folder / "jupyter-path" / "kernels" / "messaged"
    spec.mkdir(parents=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    content: dict[str, Any] = {"argv": argv, "language": "python", "display_name": "Messaged"}
    (spec / "kernel.json").write_text(json.dumps({**content, "interrupt_mode": "message"}))
    daemon.profile("tested", "kernel: messaged\n")
    daemon.start(env={**os.environ, "JUPYTER_PATH": str(daemon.folder / "jupyter-path")})
    found = daemon.post("tested", "start")
    with client(found["connection_file"]) as attached:
        begin(attached, "import time; print('begun'); time.sleep(60)")
        wait_for(lambda: daemon.info("tested")["execution_state"] == "busy", "it to be told")
        daemon.post("tested", "interrupt")
        wait_for(lambda: daemon.info("tested")["execution_state"] == "idle", "it to stop")


def test_a_kernel_asks_its_user_for_input(daemon: Daemon) -> None:
    daemon.profile("tested", f"python: {sys.executable}\nlauncher: fork\n")
    daemon.start()
    with client(daemon.post("tested", "start")["connection_file"]) as attached:
        attached.execute("name = input('who? ')", allow_stdin=True)
        asked = attached.get_stdin_msg(timeout=30)
        assert asked["content"]["prompt"] == "who? "
        attached.input("you")
        assert run_on(attached, "print(name)") == "you\n"
