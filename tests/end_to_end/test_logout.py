"""A user without a daemon: it is started on first use, and outlives the login.

Each test runs in a mount namespace with a /tmp/kconnd-0 of its own, so that it meets no daemon
of the person who runs it. As root that needs no more than unshare(1).
"""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: a /tmp of its own by unshare"),
]

# What happens at a logout is what logind does: SIGTERM and SIGHUP to all processes of the
# session, then SIGKILL, then the runtime folder is removed.
SCRIPT = r"""
import contextlib, json, os, pathlib, shutil, signal, subprocess, sys, time

home = pathlib.Path(sys.argv[1])
runtime = home / "run-user"; runtime.mkdir(mode=0o700)
env = {"HOME": str(home), "PATH": os.environ["PATH"], "XDG_RUNTIME_DIR": str(runtime)}
ctl = [sys.executable, "-W", "error", "-m", "kconnd.cli.main"]

def run(*arguments, **more):
    done = subprocess.run([*ctl, *arguments], capture_output=True, text=True, env=env, **more)
    return [done.returncode, done.stdout, done.stderr]

def members(session):
    found = []
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_bytes().rpartition(b")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session:
            found.append(int(stat.parent.name))
    return found

result = {"look-up": run("list")}
login = subprocess.Popen(
    ["/bin/sh", "-c", '"$@"; sleep 1000', "sh", *ctl, "start", "python3"],
    env=env, start_new_session=True, stdout=subprocess.PIPE, text=True, cwd=home,
)
result["start"] = login.stdout.readline()
before = json.loads(run("info", "python3", "--json")[1])
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGKILL):
    for pid in members(login.pid):
        with contextlib.suppress(ProcessLookupError):  # it ended since they were listed
            os.kill(pid, number)
login.wait()
shutil.rmtree(runtime)
del env["XDG_RUNTIME_DIR"]
after = json.loads(run("info", "python3", "--json")[1])
result["same"] = [before["pid"] == after["pid"], after["state"], after["connection_file"]]
health = json.loads(run("health", "--json")[1])
status = dict(
    line.split(":\t", 1)
    for line in pathlib.Path(f"/proc/{health['pid']}/status").read_text().splitlines()
)
mode = oct(os.stat(health["runtime_dir"]).st_mode)
result["daemon"] = [os.readlink(f"/proc/{health['pid']}/cwd"), mode]
result["environment"] = pathlib.Path(f"/proc/{health['pid']}/environ").read_text()
result["stop"] = run("stop", "--all", "--yes")
os.kill(health["pid"], signal.SIGTERM)

def ended(pid):
    try:
        return b") Z " in pathlib.Path(f"/proc/{pid}/stat").read_bytes()  # init may be slow
    except OSError:
        return True

while not ended(health["pid"]):
    time.sleep(0.02)
print(json.dumps(result))
"""


def in_own_place(script: str, home: Path) -> Any:
    place = Path("/tmp/kconnd-0")
    place.mkdir(mode=0o700, exist_ok=True)
    isolated = 'mount -t tmpfs -o mode=700 none /tmp/kconnd-0 && exec "$@"'
    command = ["unshare", "--mount", "--propagation=private", "/bin/sh", "-c", isolated, "sh"]
    done = subprocess.run(
        ["/usr/bin/env", *command, sys.executable, "-c", script, str(home)],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parent.parent.parent,
        env={**os.environ, "SECRET_OF_MY_SHELL": "x"},
    )
    with contextlib.suppress(OSError):
        place.rmdir()  # it stays, if it holds somebody's daemon
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_daemon_starts_on_first_use_and_outlives_the_login(tmp_path: Path) -> None:
    found = in_own_place(SCRIPT, tmp_path)
    code, _, error = found["look-up"]
    assert code == 6
    assert "no kconnd daemon answers" in error
    assert "kconnd-ctl start NAME starts one" in error
    assert found["start"].startswith("python3 is ready: /tmp/kconnd-0/")
    assert found["same"] == [True, "running", "/tmp/kconnd-0/kernel-python3.json"]
    assert found["daemon"] == ["/", "0o40700"]
    assert "SECRET_OF_MY_SHELL" not in found["environment"]
    assert found["stop"] == [0, "python3 is stopped\n", ""]
