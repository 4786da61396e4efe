"""Jupyter's managers and runners attach to kernels of a real daemon, and detach."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nbformat
import pytest
from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager, KernelManager
from nbclient import NotebookClient
from nbclient.exceptions import DeadKernelError

from kconnd.errors import KconndError, RefusedError
from tests.conftest import wait_for
from tests.end_to_end.daemon import Daemon, run, waiting_cell
from tests.jupyter.conftest import FORK, install

SPEC = "kconnd-lab"
OLD = "KCONND_OLD_CLIENT" in os.environ


@asynccontextmanager
async def attached(
    spec: str = SPEC, **options: Any
) -> AsyncIterator[tuple[AsyncKernelManager, AsyncKernelClient]]:
    """Start a kernel as a front end does, with a client that is ready."""
    manager = AsyncKernelManager(kernel_name=spec)
    await manager.start_kernel(**options)
    client = manager.client()
    client.start_channels()
    try:
        await client.wait_for_ready(timeout=30)
        yield manager, client
    finally:
        client.stop_channels()


def read(path: str) -> bytes:
    return Path(path).read_bytes()


def exists(path: str) -> bool:
    return Path(path).exists()


async def execute(client: AsyncKernelClient, code: str) -> str:
    printed: list[str] = []

    def collect(message: dict[str, Any]) -> None:
        if message["msg_type"] == "stream":
            printed.append(message["content"]["text"])

    reply = await client.execute_interactive(code, timeout=30, output_hook=collect)
    assert reply["content"]["status"] == "ok", reply["content"]
    return "".join(printed)


def test_the_kernel_specs_are_there_and_kconnd_does_not_take_them_for_its_own(
    daemon: Daemon,
) -> None:
    found = KernelSpecManager().get_all_specs()
    spec = found[SPEC]["spec"]
    assert (spec["display_name"], spec["language"]) == ("lab (kconnd)", "python")
    assert (Path(found[SPEC]["resource_dir"]) / "logo-64x64.png").exists()
    assert "kconnd-lab" not in str(daemon.get("/v1/kernels"))
    command = [sys.executable, "-m", "kconnd.cli.main", "kernelspec"]
    listed = subprocess.run([*command, "list", "--json"], check=True, capture_output=True)
    assert {one["profile"] for one in json.loads(listed.stdout)["kernelspecs"]} == {"lab", "each"}
    subprocess.run([*command, "remove", "lab"], check=True, capture_output=True)
    assert SPEC not in KernelSpecManager().get_all_specs()
    missing = subprocess.run([*command, "remove", "lab"], check=False, capture_output=True)
    assert missing.returncode == 4


def kernelspec(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "kconnd.cli.main", "kernelspec", *words]
    return subprocess.run(command, check=False, capture_output=True, text=True)


@pytest.mark.usefixtures("daemon")
def test_any_kernel_can_have_a_spec_in_any_prefix(tmp_path: Path) -> None:
    done = kernelspec("install", "python3", "--prefix", str(tmp_path))
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "share" / "jupyter" / "kernels" / "kconnd-python3"
    content = json.loads((folder / "kernel.json").read_bytes())
    shown = ("Python 3 (ipykernel) (kconnd)", "python")
    assert (content["display_name"], content["language"]) == shown
    assert content["metadata"]["debugger"] is True
    assert (folder / "logo-64x64.png").exists()
    listed = json.loads(kernelspec("list", "--json", "--prefix", str(tmp_path)).stdout)
    assert [one["profile"] for one in listed["kernelspecs"]] == ["python3"]
    done = kernelspec("install", "nothing-of-this-name")
    assert (done.returncode, "OWNER/NAME" in done.stderr) == (4, True)


def test_two_profiles_that_jupyter_cannot_tell_apart_are_refused(daemon: Daemon) -> None:
    daemon.profile("Lab", f"python: {sys.executable}\n")
    daemon.ask("POST", "/v1/reload")
    done = kernelspec("install", "Lab")
    assert (done.returncode, "lab" in done.stderr) == (2, True)
    for name in ("lab", "Lab", "each"):
        (daemon.configs / f"{name}.yaml").unlink()
    daemon.ask("POST", "/v1/reload")
    done = kernelspec("install", "--all")
    assert (done.returncode, "there is no profile" in done.stderr) == (4, True)


def test_the_language_of_a_spec_is_what_the_kernel_says_of_itself(
    daemon: Daemon, tmp_path: Path
) -> None:
    command = f"[{sys.executable}, -m, bash_kernel, -f, '{{connection_file}}']"
    daemon.profile("sh", f"argv: {command}\n")
    daemon.ask("POST", "/v1/reload")
    daemon.post("sh", "start")
    assert kernelspec("install", "sh", "--prefix", str(tmp_path)).returncode == 0
    file = tmp_path / "share" / "jupyter" / "kernels" / "kconnd-sh" / "kernel.json"
    assert json.loads(file.read_bytes())["language"] == "bash"


@pytest.mark.parametrize("now", [False, True])
async def test_a_shutdown_lets_go_and_the_next_front_end_finds_the_variable(
    daemon: Daemon, *, now: bool
) -> None:
    async with attached() as (manager, client):
        await execute(client, "kept = 6 * 7")
        await manager.shutdown_kernel(now=now)
    before = daemon.info("lab")
    assert before["state"] == "running"
    assert not exists(manager.connection_file), "it was Jupyter's own copy"
    async with attached() as (manager, client):
        assert await execute(client, "print(kept)") == "42\n"
        await manager.shutdown_kernel(now=now)
    assert daemon.info("lab")["pid"] == before["pid"]


async def test_a_running_cell_is_not_interrupted_by_a_front_end_that_goes(daemon: Daemon) -> None:
    async with attached() as (manager, client):
        client.execute("import time\nfor n in range(20): time.sleep(0.05)\ndone = n")
        wait_for(lambda: daemon.info("lab")["execution_state"] == "busy", "the cell to run")
        await manager.shutdown_kernel()
    assert run(daemon.info("lab")["connection_file"], "print(done)") == "19\n"


@pytest.mark.parametrize("now", [False, True])
async def test_a_restart_restarts_and_keeps_the_connection(daemon: Daemon, *, now: bool) -> None:
    async with attached() as (manager, client):
        await execute(client, "gone = 1")
        before, file = daemon.info("lab"), read(manager.connection_file)
        await manager.restart_kernel(now=now)
        await client.wait_for_ready(timeout=30)
        after = daemon.info("lab")
        assert after["generation"] == before["generation"] + 1
        assert read(manager.connection_file) == file
        assert await execute(client, "print('gone' in globals())") == "False\n"
        await manager.shutdown_kernel()


@pytest.mark.usefixtures("daemon")
async def test_an_interrupt_interrupts(tmp_path: Path) -> None:
    async with attached() as (manager, client):
        client.execute(waiting_cell(tmp_path / "gate"))
        wait_for((tmp_path / "gate").exists, "the cell to run")
        await manager.interrupt_kernel()
        assert await execute(client, "print(x)") == "1\n"
        await manager.shutdown_kernel()


async def test_a_kernel_that_is_interrupted_by_message_keeps_its_mode(
    daemon: Daemon, home: Path, tmp_path: Path
) -> None:
    """Jupyter asks the daemon, which then sends ``interrupt_request``."""
    folder = home / "data/kernels/messaged"
    folder.mkdir(parents=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    content = {"argv": argv, "display_name": "Messaged", "language": "python"}
    text = json.dumps({**content, "interrupt_mode": "message", "metadata": {"debugger": True}})
    (folder / "kernel.json").write_text(text)
    daemon.ask("POST", "/v1/reload")
    done = kernelspec("install", "messaged")
    assert done.returncode == 0, done.stderr
    spec = KernelSpecManager().get_kernel_spec("kconnd-messaged")
    assert (spec.display_name, spec.interrupt_mode) == ("Messaged (kconnd)", "message")
    assert spec.metadata["debugger"] is True
    async with attached("kconnd-messaged") as (manager, client):
        client.execute(waiting_cell(tmp_path / "gate"))
        wait_for((tmp_path / "gate").exists, "the cell to run")
        await manager.interrupt_kernel()
        assert await execute(client, "print(x)") == "1\n"
        await manager.shutdown_kernel()


async def test_an_interrupt_of_a_kernel_that_starts_does_nothing_and_fails_nothing(
    daemon: Daemon,
) -> None:
    """SIGINT would end it, as it does where jupyter_client sends it in a kernel's first second."""
    async with attached() as (manager, _):
        os.kill(daemon.info("lab")["pid"], signal.SIGKILL)
        wait_for(lambda: daemon.info("lab")["generation"] == 2, "kconnd to restart it")
        interrupts = 0
        while daemon.state_of("lab") in {"launching", "starting"}:
            await manager.interrupt_kernel()
            interrupts += 1
        assert interrupts, "else this shows nothing"
        after = daemon.wait_state("lab", "running")
        assert (after["generation"], after["last_exit"]["reason"]) == (2, "killed by SIGKILL")
        await manager.shutdown_kernel()


async def test_a_kernel_that_ended_is_not_alive_and_is_started_for_the_next(
    daemon: Daemon,
) -> None:
    async with attached() as (manager, client):
        assert await manager.is_alive()
        os.kill(daemon.info("lab")["pid"], signal.SIGKILL)
        wait_for(lambda: daemon.info("lab")["generation"] == 2, "kconnd to restart it")
        daemon.wait_state("lab", "running")
        assert not await manager.is_alive(), "what ran in the old process is lost"
        assert await manager.is_alive(), "that is told once; the new one is attached to"
        await client.wait_for_ready(timeout=30)
        assert await execute(client, "print(1)") == "1\n"
        daemon.post("lab", "stop")
        assert not await manager.is_alive()
        await manager.shutdown_kernel()
    async with attached() as (manager, _):
        assert daemon.info("lab")["state"] == "running"
        await manager.shutdown_kernel()


async def test_a_revoked_key_is_not_taken_up_by_itself(daemon: Daemon) -> None:
    async with attached() as (manager, _):
        daemon.ask("POST", "/v1/kernels/lab/restart", {"new_key": True})
        for _ in range(2):
            assert not await manager.is_alive()
        await manager.shutdown_kernel()
    assert daemon.info("lab")["state"] == "running"


async def test_a_kernel_on_tcp_with_curve_is_attached_to(daemon: Daemon) -> None:
    daemon.profile("lab", f"{FORK}transport: tcp\n")
    daemon.ask("POST", "/v1/reload")
    if OLD:
        with pytest.raises(KconndError, match="jupyter_client"):
            await AsyncKernelManager(kernel_name=SPEC).start_kernel()
        return
    async with attached() as (manager, client):
        assert daemon.info("lab")["connection"]["encrypted"]
        assert await execute(client, "print(6 * 7)") == "42\n"
        await manager.restart_kernel()
        await client.wait_for_ready(timeout=30)
        await manager.shutdown_kernel()
    assert daemon.info("lab")["state"] == "running"


def test_the_end_of_a_console_is_not_the_kernels(daemon: Daemon, jupyter: dict[str, str]) -> None:
    for said, text in (("kept = 6 * 7\n", ""), ("print('again', kept)\n", "again 42")):
        done = subprocess.run(
            [sys.executable, "-m", "jupyter_console", "--kernel", SPEC, "--simple-prompt"],
            env={**jupyter, "PYTHONWARNINGS": "ignore"},
            input=said,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert text in done.stdout, done.stderr
        assert daemon.info("lab")["state"] == "running"


@pytest.mark.usefixtures("daemon")
async def test_a_restart_that_is_refused_leaves_the_front_end_attached() -> None:
    async with attached() as (manager, client):
        provisioner: Any = manager.provisioner
        asked = provisioner._daemon.post

        async def refuse(kernel: str, verb: str, *rest: Any) -> Any:
            if verb == "restart":
                raise RefusedError("uid 1 may not restart lab")
            return await asked(kernel, verb, *rest)

        provisioner._daemon.post = refuse
        with pytest.raises(RefusedError):
            await manager.restart_kernel()
        assert await manager.is_alive()
        assert await execute(client, "print(1)") == "1\n"
        await manager.shutdown_kernel()


def test_the_blocking_manager_works_too(daemon: Daemon) -> None:
    manager = KernelManager(kernel_name=SPEC)
    manager.start_kernel()
    client = manager.client()
    client.start_channels()
    client.wait_for_ready(timeout=30)
    client.stop_channels()
    manager.shutdown_kernel()
    assert daemon.info("lab")["state"] == "running"


def test_what_the_daemon_refuses_is_told(daemon: Daemon) -> None:
    daemon.profile("broken", f"argv: [{sys.executable}, -c, 'exit(3)', '{{connection_file}}']\n")
    daemon.ask("POST", "/v1/reload")
    install(dict(os.environ))
    manager = KernelManager(kernel_name="kconnd-broken")
    with pytest.raises(Exception, match="broken"):
        manager.start_kernel()


def notebook(*cells: str) -> Any:
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])


def output(found: Any) -> str:
    return "".join(
        out["text"] for cell in found.cells for out in cell.outputs if out.output_type == "stream"
    )


def test_nbclient_runs_on_the_kernel_and_leaves_it(daemon: Daemon) -> None:
    first = notebook("kept = 6 * 7\nprint('first')")
    NotebookClient(first, kernel_name=SPEC, timeout=60).execute()
    second = notebook("print(kept)")
    NotebookClient(second, kernel_name=SPEC, timeout=60).execute()
    assert (output(first), output(second)) == ("first\n", "42\n")
    assert daemon.info("lab")["state"] == "running"


def test_nbclient_is_told_that_its_kernel_died(daemon: Daemon) -> None:
    with pytest.raises(DeadKernelError):
        NotebookClient(notebook("import os; os._exit(1)"), kernel_name=SPEC, timeout=60).execute()
    found = daemon.wait_state("lab", "running")
    assert run(found["connection_file"], "print(1)") == "1\n", "it can be reached"


def test_parallel_papermill_runs_get_a_kernel_each(daemon: Daemon, tmp_path: Path) -> None:
    first = "import time, os\nfirst = 'mine' not in globals()\nmine = os.getpid()"
    nbformat.write(notebook(first, "time.sleep(1)\nprint(first, mine)"), tmp_path / "in.ipynb")
    command = [sys.executable, "-W", "ignore", "-m", "papermill", str(tmp_path / "in.ipynb")]
    runs = [
        subprocess.Popen(
            [*command, str(tmp_path / f"{n}.ipynb"), "-k", "kconnd-each", "--no-progress-bar"],
            stderr=subprocess.PIPE,
        )
        for n in range(2)
    ]
    for one in runs:
        _, said = one.communicate(timeout=120)
        assert one.returncode == 0, said
    texts = [output(nbformat.read(tmp_path / f"{n}.ipynb", 4)).split() for n in range(2)]
    assert [text[0] for text in texts] == ["True", "True"]
    assert texts[0][1] != texts[1][1]
    kernels = [kernel["name"] for kernel in daemon.get("/v1/kernels")["kernels"]]
    assert [name for name in kernels if "@run-" in name] == [], "they end with the runs"


def test_with_the_oldest_jupyter_client_that_is_supported(tmp_path: Path) -> None:
    """The private attributes that `kconnd.jupyter.detach` changes exist in 8.6.0, too."""
    if OLD:
        pytest.skip("this is that run")
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(tmp_path)]
    subprocess.run([*pip, "jupyter_client==8.6.0"], check=True, capture_output=True)
    tests = [
        "-k",
        "shutdown or restart or interrupt or nbclient or blocking or console or curve",
        __file__,
    ]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "ignore", *tests],
        env={**os.environ, "PYTHONPATH": str(tmp_path), "KCONND_OLD_CLIENT": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    version = "import jupyter_client; print(jupyter_client.__version__)"
    seen = subprocess.run(
        [sys.executable, "-c", version],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert seen.stdout == "8.6.0\n"


def test_managers_of_two_front_ends_share_one_kernel(daemon: Daemon) -> None:
    async def both() -> None:
        async with attached() as (one, mine), attached() as (two, yours):
            heard = asyncio.ensure_future(_hear(yours, "from the other\n"))
            await execute(mine, "print('from the other')")
            await asyncio.wait_for(heard, 30)
            await one.shutdown_kernel()
            assert await execute(yours, "print(1)") == "1\n"
            await two.shutdown_kernel()

    asyncio.run(both())
    assert daemon.info("lab")["state"] == "running"


async def _hear(client: AsyncKernelClient, text: str) -> None:
    while True:
        message = await client.get_iopub_msg(timeout=30)
        if message["msg_type"] == "stream" and message["content"]["text"] == text:
            return
