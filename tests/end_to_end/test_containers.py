"""Real kernels that bwrap runs with a part of the files, and what is said of unreached ones."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from kconnd.core.launch.containers import NEVER_REACHED
from kconnd.daemon.kernel.place import PRIVATE_PREFIX
from tests.end_to_end.daemon import Daemon, DaemonError, run

BWRAP = shutil.which("bwrap") or ""
pytestmark = pytest.mark.skipif(not BWRAP, reason="needs bwrap (bubblewrap)")
KERNEL = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
UNKNOWN = ["sh", "-c", 'exec "$@"', "sh"]  # a program whose container kconnd does not know


def hide(daemon: Daemon, *more: str) -> list[str]:
    """Return a command that hides the daemon's folders, and mounts a shared one among them."""
    shared = daemon.folder / "shared"
    shared.mkdir(mode=0o755, exist_ok=True)
    words = [BWRAP, "--bind", "/", "/", "--dev", "/dev"]
    for folder in (daemon.runtime, daemon.state, shared):
        words += ["--tmpfs", str(folder)]
    return [*words, "--bind", str(shared), f"{daemon.runtime}/in", *more]


def profile(daemon: Daemon, argv: list[str], rest: str = "") -> None:
    restart = "restart: {policy: no}\n"
    daemon.profile("lab", f"argv: {json.dumps([*argv, *KERNEL])}\n{restart}{rest}")


def test_a_kernel_without_network_and_runtime_folder_is_reached(folder: Path) -> None:
    with Daemon(folder) as daemon:
        profile(daemon, hide(daemon, "--unshare-net"))
        daemon.start()
        started = daemon.post("lab", "start")
        assert started["connection"]["transport"] == "ipc"
        (private,) = (folder / "shared").iterdir()
        assert private.name.startswith(PRIVATE_PREFIX)
        assert private.stat().st_mode & 0o777 == 0o700
        own_copy = private / "kernel-lab.json"
        assert own_copy.stat().st_mode & 0o777 == 0o600
        file = started["connection_file"]
        assert Path(file).parent == daemon.runtime
        show = "import os; print(os.environ['KCONND_CONNECTION_FILE'])"
        inside = run(file, show).strip()
        assert inside == f"{daemon.runtime}/in/{private.name}/kernel-lab.json"
        assert run(file, "x = 7") == ""
        assert daemon.info("lab")["clients"] is None, "they cannot be counted, so it is never idle"
        daemon.kill()
        daemon.start()
        assert daemon.info("lab")["pid"] == started["pid"]
        assert run(file, "print(x)") == "7\n"
        restarted = daemon.post("lab", "restart")
        assert restarted["connection"] == started["connection"]
        assert run(file, "print('x' in globals())") == "False\n"
        daemon.post("lab", "stop", now=True)
        assert list((folder / "shared").iterdir()) == []


def test_the_profile_names_the_folder_for_a_wrapper_that_is_not_known(folder: Path) -> None:
    with Daemon(folder) as daemon:
        shared = f"connection_folder: {folder}/shared:{daemon.runtime}/in\ntransport: ipc\n"
        profile(daemon, [*UNKNOWN, *hide(daemon)], shared)
        daemon.start()
        started = daemon.post("lab", "start")
        assert started["connection"]["ip"].startswith(f"{folder}/shared/{PRIVATE_PREFIX}")
        assert run(started["connection_file"], "print(6 * 7)") == "42\n"


def test_a_kernel_that_is_never_reached_is_told_with_the_cure(folder: Path) -> None:
    with Daemon(folder) as daemon:
        profile(daemon, [*UNKNOWN, *hide(daemon)], "startup_timeout: 8s\n")
        daemon.start()
        with pytest.raises(DaemonError) as caught:
            daemon.post("lab", "start")
        hint = caught.value.hint
        assert hint.startswith(NEVER_REACHED)
        assert f"does not have its connection file {daemon.runtime}/kernel-lab.json" in hint
        assert "connection_folder: FOLDER" in hint


def test_a_folder_in_which_others_may_write_is_refused(folder: Path) -> None:
    with Daemon(folder) as daemon:
        profile(daemon, hide(daemon), f"connection_folder: {folder}/shared\n")
        (folder / "shared").chmod(0o777)
        daemon.start()
        with pytest.raises(DaemonError, match="other users may write to it") as caught:
            daemon.post("lab", "start")
        assert caught.value.hint.startswith(f"chmod go-w {folder}/shared")
