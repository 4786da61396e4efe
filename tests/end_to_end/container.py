"""Containers for tests: own namespaces of pids, mounts, ipc and host names, and an own /tmp.

Leaving a container kills its processes. The machine-id and the boot id are those of the machine, as
in real containers. The folder that containers share, such as a home on a network, is at `SHARED`.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from tests.conftest import wait_for

SHARED = Path("/mnt")
PLACES = {
    "XDG_CONFIG_HOME": f"{SHARED}/.config",
    "XDG_STATE_HOME": f"{SHARED}/.local/state",
    "XDG_DATA_HOME": f"{SHARED}/.local/share",
}
CTL = (sys.executable, "-W", "error", "-m", "kconnd.cli.main")
_SCRIPT = """\
set -e
mount --make-rprivate /
mount --bind "$1" /mnt
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /run
hostname "$2"
echo begun
exec sleep infinity
"""

needs_namespaces = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("unshare") or not shutil.which("nsenter"),
    reason="making namespaces takes root, unshare(1) and nsenter(1)",
)


class Container:
    """A container, which exists while its context is entered.

    Parameters
    ----------
    shared : Path
        Its home folder, which other containers may share.
    host : str
        Its host name.
    own_pids : bool
        Whether it has a pid namespace, in which it sees only its own processes.
    """

    def __init__(self, shared: Path, host: str, *, own_pids: bool = True) -> None:
        self._shared, self.host, self._own_pids = shared, host, own_pids
        self._outer: subprocess.Popen[str] | None = None
        self.first = 0

    def __enter__(self) -> Self:
        pids = ("--pid", "--fork", "--mount-proc", "--kill-child") if self._own_pids else ()
        command = [
            "unshare",
            *pids,
            "--uts",
            "--mount",
            "--ipc",
            "sh",
            "-c",
            _SCRIPT,
            "sh",
            str(self._shared),
            self.host,
        ]
        self._outer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._outer.stdout is not None
        assert self._outer.stdout.readline() == "begun\n"
        children = Path(f"/proc/{self._outer.pid}/task/{self._outer.pid}/children")
        self.first = int(children.read_text()) if self._own_pids else self._outer.pid
        return self

    def __exit__(self, *_: object) -> None:
        assert self._outer is not None
        if not self._own_pids:
            for pid in self._members():  # the end of a pid namespace would kill them
                os.kill(pid, signal.SIGKILL)
        self._outer.kill()
        self._outer.communicate()
        wait_for(self._has_ended, "a container to end")

    def _members(self) -> Iterator[int]:
        """List the pids of its mount namespace, except the first."""
        own = os.readlink(f"/proc/{self.first}/ns/mnt")  # noqa: PTH115  # a link whose text is no path
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if os.readlink(folder / "ns/mnt") == own and folder.name != str(self.first):  # noqa: PTH115  # a link whose text is no path
                    yield int(folder.name)

    def _has_ended(self) -> bool:
        try:
            stat = Path(f"/proc/{self.first}/stat").read_text(encoding="utf-8")
        except OSError:
            return True
        return stat.rpartition(")")[2].split()[0] == "Z"

    def command(self, *words: str, env: dict[str, str] | None = None) -> list[str]:
        """Return the words that run a command in this container."""
        own = {"HOME": str(SHARED), "PATH": os.environ["PATH"]} | PLACES | (env or {})
        inside = ["env", "-i", *(f"{key}={value}" for key, value in own.items()), *words]
        kinds = ("-m", "-u", "-i", "-p") if self._own_pids else ("-m", "-u", "-i")
        return ["nsenter", "-t", str(self.first), *kinds, "--", *inside]

    def run(
        self, *words: str, code: int | None = 0, **more: Any
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            self.command(*words, **more), capture_output=True, text=True, check=False, timeout=90
        )
        assert code is None or done.returncode == code, (words, done)
        return done

    def ctl(self, *words: str, **more: Any) -> subprocess.CompletedProcess[str]:
        """Run ``kconnd-ctl``."""
        return self.run(*CTL, *words, **more)

    def info(self, name: str) -> dict[str, Any]:
        state: dict[str, Any] = json.loads(self.ctl("info", name, "--json").stdout)
        return state

    def root(self, path: str) -> Path:
        """Return the path outside of the container that leads to a path inside."""
        return Path(f"/proc/{self.first}/root{path}")

    def kill_daemon(self, number: str = "KILL") -> None:
        """Kill its daemon, like a crash; its kernels survive."""
        pid = str(json.loads(self.ctl("health", "--json").stdout)["pid"])
        self.run("kill", f"-{number}", pid)
        self.run("sh", "-c", f"while [ -e /proc/{pid}/exe ]; do sleep 0.01; done")
