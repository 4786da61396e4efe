"""Each kernel of the table does what its row says, under a daemon and with ``kconnd-ctl``."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.daemon import Daemon
from tests.jupyter.kernel_measurement import NAME, Measurement, kernel_environment
from tests.jupyter.kernel_table import ROWS, KernelRow

OWN = Path(sys.executable).parent.parent


@pytest.fixture(scope="session")
def environment_of() -> Iterator[Callable[[KernelRow], Path]]:
    """Give a way to install a kernel, once for each session.

    The environment variable KCONND_KERNELS names a folder that outlives the session.
    """
    lasting = os.environ.get("KCONND_KERNELS")
    root = Path(lasting or tempfile.mkdtemp(prefix="kernels-"))

    def install(row: KernelRow) -> Path:
        if not (row.pip or row.npm):
            return OWN
        folder = root / row.name.replace(" ", "-")
        if not (folder / "installed").exists():
            install_into(folder, row)
            (folder / "installed").touch()
        return folder

    yield install
    if not lasting:
        shutil.rmtree(root)


def install_into(folder: Path, row: KernelRow) -> None:
    if row.pip:
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        pip = [str(folder / "bin/python"), "-m", "pip", "install", "-q", *row.pip]
        subprocess.run(pip, check=True, capture_output=True, text=True)
    if row.npm:
        npm = ["npm", "install", "--silent", "--prefix", str(folder), *row.npm]
        subprocess.run(npm, check=True, capture_output=True, text=True)


def record(row: KernelRow, measured: dict[str, Any]) -> None:
    """Keep what was measured in the file that KCONND_KERNEL_RESULTS names, for the page."""
    if path := os.environ.get("KCONND_KERNEL_RESULTS"):
        file = Path(path)
        results = json.loads(file.read_bytes()) if file.exists() else {}
        results[row.name] = measured
        ordered = {each.name: results[each.name] for each in ROWS if each.name in results}
        file.write_text(json.dumps(ordered, indent=1) + "\n", encoding="utf-8")


def marks(row: KernelRow) -> list[pytest.MarkDecorator]:
    return [pytest.mark.languages, *([pytest.mark.nightly] if row.nightly else [])]


EACH_ROW = pytest.mark.parametrize(
    "row", [pytest.param(row, id=row.name, marks=marks(row)) for row in ROWS]
)


@contextlib.contextmanager
def measuring(
    row: KernelRow, environment_of: Callable[[KernelRow], Path], home: Path, *keys: str
) -> Iterator[Measurement]:
    """Run a daemon with the kernel's profile, to which lines are added."""
    if row.program and not shutil.which(row.program):
        pytest.skip(f"{row.program} is not installed here")
    if row.below_python and sys.version_info >= row.below_python:
        pytest.skip("its package does not run with this version of Python")
    venv = environment_of(row)
    env = kernel_environment(home, venv)
    profile = row.profile.replace("{venv}", str(venv)).replace("{python}", sys.executable)
    with Daemon(home) as daemon:
        daemon.profile(NAME, "\n".join((profile, *keys)))
        daemon.start(env=env)
        yield Measurement(row, daemon, env)


@EACH_ROW
def test_a_kernel_does_what_its_row_says(
    row: KernelRow, environment_of: Callable[[KernelRow], Path], home: Path
) -> None:
    with measuring(row, environment_of, home) as measurement:
        measured = measurement.measure()
    record(row, measured)
    expected = row.expected()
    assert {key: measured[key] for key in expected} == expected


@EACH_ROW
def test_a_kernel_is_kept_warm_and_gets_its_name(
    row: KernelRow, environment_of: Callable[[KernelRow], Path], home: Path
) -> None:
    with measuring(row, environment_of, home, "warm: 1") as measurement:
        measured = measurement.measure_warm()
    knows_name = "name" in row.code
    assert measured == {"warm": True, "runs": True, "knows_name": knows_name, "left": []}
