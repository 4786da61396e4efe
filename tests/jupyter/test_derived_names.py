"""Jupyter's managers and servers attach to kernels whose names are derived from names of specs."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import KernelManager

from kconnd.core.names import derived_name
from tests.conftest import wait_for
from tests.end_to_end.daemon import Daemon, run_on
from tests.jupyter.test_provisioner import kernelspec
from tests.jupyter.test_server import CLASS, Server

SPEC = "C++ 17"
NAME = derived_name(SPEC)
ARGV = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]


def install(home: Path, name: str, **content: Any) -> None:
    folder = home / "data" / "kernels" / name
    folder.mkdir(parents=True)
    content = {"argv": ARGV, "display_name": f"The {name}", "language": "python", **content}
    (folder / "kernel.json").write_text(json.dumps(content), encoding="utf-8")


@pytest.fixture
def named(home: Path, jupyter: dict[str, str]) -> Iterator[Daemon]:
    """Give a daemon, a kernel spec with a blank in its name, and one that leads to it by name."""
    install(home, SPEC)
    provisioner = {"provisioner_name": "kconnd", "config": {"profile": "c++ 17"}}
    install(home, "Größe +", metadata={"kernel_provisioner": provisioner})
    with Daemon(home) as daemon:
        yield daemon.start(env=jupyter)


def execute(manager: KernelManager, code: str) -> str:
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=30)
        return run_on(client, code)
    finally:
        client.stop_channels()


@pytest.mark.filterwarnings("ignore:Invalid kernelspec directory name")
def test_stock_managers_attach_by_both_names(named: Daemon) -> None:
    outcome = kernelspec("install", SPEC)
    assert f"as 'The {SPEC} (kconnd)'" in outcome.stdout, outcome.stderr
    spec = KernelSpecManager().get_kernel_spec(f"kconnd-{NAME}")
    assert spec.argv[1:] == ["start", NAME]
    first, second = (
        KernelManager(kernel_name=f"kconnd-{NAME}"),
        KernelManager(kernel_name="größe +"),
    )
    first.start_kernel()
    execute(first, "kept = 6 * 7")
    second.start_kernel()
    assert execute(second, "print(kept)") == "42\n"
    generation = named.info(NAME)["generation"]
    second.restart_kernel()
    assert named.info(SPEC)["generation"] == generation + 1
    assert execute(second, "print('kept' in globals())") == "False\n"
    for manager in (first, second):
        manager.shutdown_kernel()
    kernel = named.info(SPEC)
    assert (kernel["name"], kernel["state"]) == (NAME, "running")


def test_a_server_shows_the_display_name_and_runs_the_kernel(
    named: Daemon, home: Path, jupyter: dict[str, str]
) -> None:
    named.profile("seen", f"kernel: {SPEC}\npublish: jupyter\n")
    named.ask("POST", "/v1/reload")
    assert kernelspec("install", SPEC).returncode == 0
    with Server(home, jupyter, f"--ServerApp.kernel_manager_class={CLASS}") as server:
        shown = server.ask("GET", "api/kernelspecs")["kernelspecs"]
        assert shown[f"kconnd-{NAME}"]["spec"]["display_name"] == f"The {SPEC} (kconnd)"
        kernel = server.ask("POST", "api/kernels", {"name": f"kconnd-{NAME}"})
        code = "import os; print(os.environ['KCONND_KERNEL'])"
        assert server.run(kernel["id"], code) == f"{NAME}\n"
        server.ask("DELETE", f"api/kernels/{kernel['id']}")
        assert named.info(SPEC)["state"] == "running"
        named.post("seen", "start")
        wait_for(server.kernels, "the server to list it")
    (published,) = (home / "jupyter" / "external_kernels").glob("*.json")
    name = json.loads(published.read_bytes())["kernel_name"]
    assert shown[name]["spec"]["display_name"] == f"The {SPEC}"
