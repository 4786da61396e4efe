"""A booted machine for tests: a container with a real systemd (see box.sh)."""

import json
import os
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from kconnd.core.paths import daemon_cgroup
from tests.terminal import Terminal

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = Path(__file__).with_name("box.sh")
USERS = ("ada", "bob", "eve", "max")
PASSED_ON = ("PIP_", "SSL_", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")


@dataclass(frozen=True)
class Done:
    """The exit status and output of a command in the box."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


@dataclass
class Box:
    """Boots a container while its context is entered, and runs commands in it as any user.

    Parameters
    ----------
    layout : str
        Of control groups: hybrid, legacy or unified. Boxes of different layouts can run at once.
    """

    layout: str = "hybrid"

    @property
    def folder(self) -> str:
        """Its files on the host, and its host name."""
        return f"/tmp/kbox-{os.getpid()}-{self.layout}"

    def __enter__(self) -> Self:
        done = self._script("up")
        assert done.returncode == 0, done.stdout + done.stderr
        try:
            for user in USERS:
                self.run(f"useradd -m -s /bin/bash {user}")
        except BaseException:
            self._script("down")
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._script("down")

    @property
    def environment(self) -> dict[str, str]:
        """The environment of the script that boots the container and runs commands in it."""
        box = {"BOX_DIR": self.folder, "BOX_BIND": str(ROOT), "BOX_CGROUP": self.layout}
        return {**os.environ, **box}

    def _script(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(SCRIPT), *words], env=self.environment, capture_output=True, text=True, check=False
        )

    def terminal(self, command: str, user: str) -> Terminal:
        """Run a shell command as a user on a pseudo-terminal."""
        words = (str(SCRIPT), "run", "su", "-", user, "-c", f"exec {command}")
        return Terminal(words, {**self.environment, "TERM": "xterm"})

    def try_(self, command: str, user: str = "root") -> Done:
        """Run a shell command as a user, in a login session; any exit status is accepted."""
        passed = {key: value for key, value in os.environ.items() if key.startswith(PASSED_ON)}
        words = ["env", *(f"{key}={value}" for key, value in passed.items()), "bash", "-c"]
        as_user = f"exec su - {shlex.quote(user)} -c {shlex.quote(command)}"
        inner = command if user == "root" else as_user
        done = self._script("run", *words, inner)
        return Done(done.returncode, done.stdout, done.stderr)

    def run(self, command: str, user: str = "root") -> Done:
        """Run a shell command as a user; fail with the journal if its exit status is not 0."""
        done = self.try_(command, user)
        said = f"{done.out}\n{done.err}\n{self.journal()}"
        assert done.code == 0, f"{user}: {command}: {done.code}\n{said}"
        return done

    def as_daemon(self, command: str, uid: int) -> Done:
        """Run a command as a user inside the control group of the user's daemon."""
        self.run(f"systemctl start kconnd@{uid}.socket kconnd@{uid}.service")
        group = f"{self.cgroups()}{daemon_cgroup(uid)}"
        words = f"setpriv --reuid {uid} --regid {uid} --clear-groups sh -c {shlex.quote(command)}"
        return self.run(f"echo $$ > {group}/cgroup.procs && exec {words}")

    def cgroups(self) -> str:
        """Return the mount point of the cgroup hierarchy that systemd manages."""
        return self.run(
            "echo /sys/fs/cgroup$(test -d /sys/fs/cgroup/systemd && echo /systemd)"
        ).out[:-1]

    def ctl(self, arguments: str, user: str) -> Any:
        """Run kconnd-ctl with ``--json`` and parse its output."""
        return self.run(f"kconnd-ctl {arguments} --json", user).json()

    def pid(self, kernel: str, user: str) -> int:
        return int(self.ctl(f"info {kernel}", user)["pid"])

    def uid(self, user: str) -> int:
        return int(self.run(f"id -u {user}").out)

    def main_pid(self, unit: str) -> int:
        return int(self.run(f"systemctl show -P MainPID {unit}").out)

    def write(self, path: str, text: str) -> None:
        self.run(f"mkdir -p $(dirname {path}); printf %s {shlex.quote(text)} > {path}")

    def journal(self) -> str:
        return self.try_("journalctl --no-pager -n 60 -u 'kconnd*'").out
