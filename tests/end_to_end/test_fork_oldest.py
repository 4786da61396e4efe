"""Forking with the oldest ipykernel that is proved, in an environment that has nothing of kconnd.

The newest one is that of these tests themselves, in ``test_fork.py``.
"""

import json
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kconnd.programs.zygote.imports import OLDEST_IPYKERNEL
from tests.end_to_end.daemon import Daemon, run

PROBE = Path(__file__).with_name("probe.py").read_text(encoding="utf-8")
LOOK = """
import importlib.util, ipykernel, sys
print([ipykernel.__version__, importlib.util.find_spec("kconnd"), "kconnd" in sys.modules])
"""
VERSION = ".".join(map(str, (*OLDEST_IPYKERNEL, 0)))

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the interpreter of an environment with that ipykernel alone."""
    folder = tmp_path_factory.mktemp("oldest")
    venv.create(folder, symlinks=True)
    found = folder / "bin" / "python"
    pip = [sys.executable, "-W", "ignore", "-m", "pip", "--python", str(found), "install", "-q"]
    pip.append(f"ipykernel=={VERSION}")
    done = subprocess.run(pip, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"pip could not install it: {done.stderr.strip().splitlines()[-1:]}")
    return found


@pytest.fixture
def daemon(folder: Path, python: Path) -> Iterator[Daemon]:
    with Daemon(folder) as found:
        for name, launcher in (("cold", "local"), ("forked", "fork")):
            text = f"python: {python}\nlauncher: {launcher}\nenv: {{IPYTHONDIR: {folder}/i}}\n"
            found.profile(name, text)
        yield found.start()


def probe(daemon: Daemon, name: str) -> dict[str, Any]:
    daemon.post(name, "start")
    file = daemon.info(name)["connection_file"]
    assert run(file, LOOK) == f"['{VERSION}', None, False]\n"
    found: dict[str, Any] = json.loads(run(file, PROBE).replace(f"kernel-{name}", "kernel-NAME"))
    del found["environ"]["KCONND_KERNEL"]
    return found


def test_the_oldest_ipykernel_is_forked_equal_to_a_cold_start(daemon: Daemon) -> None:
    cold, forked = probe(daemon, "cold"), probe(daemon, "forked")
    assert forked == cold
    found = daemon.info("forked")
    assert (found["launcher"], found["launcher_note"]) == ("fork", None)
    daemon.post("forked", "stop")
    assert daemon.wait_state("forked", "stopped")["last_exit"]["code"] == 0
