"""`check` warns if and only if a start fails: each case is checked, and then started.

The daemon has kernel specs of its own (JUPYTER_PATH). `check` asks it for its folders, so the cases
also show that `check` looks at the kernel specs of the daemon and not at those of its own
environment.
"""

import contextlib
import io
import json
import os
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kconnd.cli.main import main
from kconnd.client import Client
from kconnd.errors import KconndError
from kconnd.system.machine import own_user
from kconnd.system.profiles.review import DaemonFacts, review
from kconnd.system.user_scope import find_user_manager
from tests.end_to_end.daemon import SMALL_KERNEL, Daemon
from tests.end_to_end.hung_disk import can_hang, hung_disk

SMALL_ARGV = [sys.executable, str(SMALL_KERNEL), "{connection_file}"]
QUICK = "transport: ipc\nrestart: {policy: no}\n"
QUICK_TCP = QUICK.replace("ipc", "tcp")


def no_change(_folder: Path) -> None:
    """Leave the folder as it is."""


def write(name: str, content: str | bytes, mode: int = 0o644) -> Callable[[Path], None]:
    """Return a function that writes a file into the folder."""

    def change(folder: Path) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        path.chmod(mode)

    return change


def spec(name: str, **keys: Any) -> Callable[[Path], None]:
    """Return a function that installs a kernel spec for the daemon."""
    content = {"argv": SMALL_ARGV, "display_name": name, "language": "x", **keys}
    return write(f"jupyter/kernels/{name}/kernel.json", json.dumps(content))


def environment_without_ipykernel(folder: Path) -> None:
    """Make the folders of a virtual environment in which no package is installed."""
    program = folder / "venv/bin/python"
    program.parent.mkdir(parents=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    (folder / "venv/lib" / version / "site-packages").mkdir(parents=True)
    real = Path(sys.executable).resolve()
    program.symlink_to(real)
    (folder / "venv/pyvenv.cfg").write_text(f"home = {real.parent}\n")


@dataclass(frozen=True)
class Case:
    """A profile, what is on the disk, and the key at which `check` warns; none if it starts."""

    profile: str
    warns_at: str = ""
    prepare: Callable[[Path], None] = no_change
    same_words: bool = True  # whether the start fails with the words of the warning
    quick: str = QUICK
    starts: bool = False  # although `check` warns


SMALL = f"argv: {json.dumps(SMALL_ARGV)}\n"
CASES = {
    "all is well": Case(SMALL),
    "a kernel spec": Case("kernel: small\n", prepare=spec("small")),
    "no such spec": Case("kernel: no-such-spec\n", "kernel"),
    "a broken spec": Case(
        "kernel: broken\n", "kernel", write("jupyter/kernels/broken/kernel.json", "{")
    ),
    "a refused spec": Case("kernel: refused\n", "kernel", spec("refused", env={"A": None})),
    "a spec's program is gone": Case(
        "kernel: gone\n", "kernel", spec("gone", argv=["/no/such", "{connection_file}"])
    ),
    "a spec's bare program is gone": Case(
        "kernel: bare\n", "kernel", spec("bare", argv=["no-such-program", "{connection_file}"])
    ),
    "a spec without a connection file": Case(
        "kernel: deaf\nstartup_timeout: 1s\n",
        "kernel",
        spec("deaf", argv=["/bin/sleep", "60"]),
        same_words=False,
    ),
    "no interpreter": Case("python: /opt/gone/bin/python\n", "python"),
    "an interpreter that is a folder": Case("python: FOLDER\n", "python"),
    "an interpreter without x bit": Case(
        "python: FOLDER/python\n", "python", write("python", "#!/bin/sh\n")
    ),
    "an interpreter without ipykernel": Case(
        "python: FOLDER/venv/bin/python\n",
        "python",
        environment_without_ipykernel,
        same_words=False,
    ),
    "no program": Case("argv: [/no/such, '{connection_file}']\n", "argv"),
    "no bare program": Case("argv: [no-such-program, '{connection_file}']\n", "argv"),
    "a script with CR": Case(
        "argv: [FOLDER/run, '{connection_file}']\n",
        "argv",
        write("run", "#!/bin/sh\r\n:\r\n", 0o755),
    ),
    "a script without its interpreter": Case(
        "argv: [FOLDER/run, '{connection_file}']\n", "argv", write("run", "#!/no/such\n", 0o755)
    ),
    "a script without a first line": Case(
        "argv: [FOLDER/run, '{connection_file}']\n", "argv", write("run", "exit\n", 0o755)
    ),
    "a module that is not installed": Case(
        f"argv: [{sys.executable}, -m, acme_kernel, '{{connection_file}}']\n",
        "argv",
        same_words=False,
    ),
    "a module in the folder": Case(
        f"argv: [{sys.executable}, -m, acme, '{{connection_file}}']\ncwd: FOLDER\n",
        prepare=write("acme.py", SMALL_KERNEL.read_text(encoding="utf-8")),
    ),
    "no folder": Case(f"{SMALL}cwd: /no/such/folder\n", "cwd"),
    "the folder of a notebook": Case(f"{SMALL}cwd: notebook\n"),
    "a folder of an unknown user": Case(f"{SMALL}cwd: ~nobody-of-that-name/x\n", "cwd"),
    "a folder that is a file": Case(f"{SMALL}cwd: FOLDER/file\n", "cwd", write("file", "")),
    "no env_file": Case(f"{SMALL}env_file: /no/such/env\n", "env_file"),
    "a bad line in env_file": Case(f"{SMALL}env_file: FOLDER/e\n", "env_file", write("e", "A\n")),
    "an env_file that is a folder": Case(f"{SMALL}env_file: FOLDER\n", "env_file"),
    "a preloaded module that is not installed": Case(
        f"python: {sys.executable}\npreload: [no_such_module]\n", "preload", starts=True
    ),
    "a preloaded module": Case(f"python: {sys.executable}\npreload: [pathlib, yaml]\n"),
    "limits that nothing enforces": Case(
        f"{SMALL}limits: {{memory: 200M, open_files: 64}}\n",
        "limits" if find_user_manager(own_user()).obstacle else "",
        starts=True,
    ),
    "no such launcher": Case(f"{SMALL}launcher: systemd\n", "launcher"),
    "the address of another machine": Case(
        f"{SMALL}ip: 192.0.2.1\nencryption: none\n", "ip", same_words=False, quick=QUICK_TCP
    ),
    "a port that is taken": Case(f"{SMALL}ports: PORTS\n", "ports", quick=QUICK_TCP),
    "a login shell": Case(f"{SMALL}shell: login\nsetup: cd /\n"),
    "a login shell without the program": Case(
        "argv: [/no/such, '{connection_file}']\nshell: login\n", "argv", same_words=False
    ),
    "a good env_file": Case(f"{SMALL}env_file: FOLDER/e\n", prepare=write("e", "A=1\n")),
}


@dataclass(frozen=True)
class Checked:
    """A daemon with the profiles of all cases, and what `check` prints about them."""

    daemon: Daemon
    content: dict[str, Any]

    def start(self, name: str) -> dict[str, Any]:
        """Start a kernel as `kconnd-ctl start` does: with the session of this process."""
        started: dict[str, Any] = Client(str(self.daemon.socket)).launch(name, "start", {})
        return started

    def warnings(self, name: str) -> list[dict[str, Any]]:
        file = str(self.daemon.configs / f"{name}.yaml")
        return [warning for warning in self.content["warnings"] if warning["file"] == file]


@pytest.fixture(scope="module")
def checked() -> Iterator[Checked]:
    """Start one daemon for all cases, with a folder of kernel specs of its own."""
    with (
        tempfile.TemporaryDirectory(prefix="kc-", dir="/tmp") as path,
        Daemon(Path(path)) as daemon,
        socket.create_server(("127.0.0.1", 0)) as other,
    ):
        taken = other.getsockname()[1]
        ports = str([taken, *(taken + number for number in range(-4, 0))])
        for number, case in enumerate(CASES.values()):
            folder = daemon.folder / str(number)
            folder.mkdir()
            case.prepare(folder)
            text = (case.profile + case.quick).replace("FOLDER", str(folder))
            daemon.profile(f"case{number}", text.replace("PORTS", ports))
        roots = ":".join(
            str(daemon.folder / str(number) / "jupyter") for number in range(len(CASES))
        )
        daemon.start(env=os.environ | {"JUPYTER_PATH": roots})
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            main(["--socket", str(daemon.socket), "check", "--json"])
        yield Checked(daemon, json.loads(output.getvalue()))


def test_the_cases_have_no_faults(checked: Checked) -> None:
    assert checked.content["faults"] == []
    assert checked.content["not_looked_at"] == []
    assert checked.content["read"] == [str(checked.daemon.configs)]
    assert checked.content["daemon"] == str(checked.daemon.socket)


@pytest.mark.parametrize("title", CASES)
def test_check_warns_if_and_only_if_the_start_fails(checked: Checked, title: str) -> None:
    case = CASES[title]
    name = f"case{list(CASES).index(title)}"
    warnings = checked.warnings(name)
    assert [warning["path"] for warning in warnings] == [case.warns_at] * bool(case.warns_at)
    if not warnings or case.starts:
        started = checked.start(name)
        assert started["state"] == "running"
        assert [warning["message"] for warning in warnings if warning["path"] == "limits"] == [
            note for note in [started["limits_unenforced"]] if note
        ]
        return
    with pytest.raises(KconndError) as failure:
        checked.start(name)
    if case.same_words:
        assert warnings[0]["message"] in failure.value.message
        assert warnings[0]["hint"] == failure.value.hint


@pytest.mark.skipif(not can_hang(), reason="needs root and FUSE")
def test_a_file_server_that_hangs_is_a_warning_of_its_profile_alone(tmp_path: Path) -> None:
    configs = tmp_path / "c"
    configs.mkdir(mode=0o755)
    with hung_disk(tmp_path / "hung") as disk:
        for name, cwd in (("a", f"{disk.folder}/x"), ("b", "/"), ("c", f"{disk.folder}/x")):
            path = configs / f"{name}.yaml"
            path.write_text(f"argv: [/bin/true, '{{connection_file}}']\ncwd: {cwd}\n")
            path.chmod(0o644)
        result = review(DaemonFacts([], [str(configs)], []))
    assert sorted(result.loaded.profiles) == ["a", "b", "c"]
    assert [Path(warning.file).stem for warning in result.warnings] == ["a", "c"]
    assert all("does not answer" in warning.message for warning in result.warnings)


@pytest.mark.skipif(not can_hang(), reason="needs root and FUSE")
def test_a_folder_that_hangs_is_a_fault(tmp_path: Path) -> None:
    with hung_disk(tmp_path / "hung") as disk:
        result = review(DaemonFacts([], []), [str(disk.folder)])
    assert [fault.file for fault in result.loaded.faults] == [str(disk.folder)]
    assert "does not answer" in result.loaded.faults[0].message
