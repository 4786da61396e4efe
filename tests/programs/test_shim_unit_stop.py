"""What a shim makes of a SIGTERM: an order where process 1 sent it, and nothing where others did.

Process 1 is ours here, in a PID namespace of its own. A real systemd is in tests/server.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kconnd.core.launch.plan import LaunchPlan
from kconnd.launchers.shim_plan import plan_records
from kconnd.programs import shim
from tests.launchers.fake import files_in

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(
        os.geteuid() != 0 or not Path("/usr/bin/unshare").exists(), reason="needs root and unshare"
    ),
]
PROCESS_1 = """\
import json, os, pathlib, signal, subprocess, sys, time
shim_folder, folder, sender, plan = sys.argv[1:]
run = f"import sys; sys.path.insert(0, {shim_folder!r}); import shim; "
run += "shim.UNIT_STOP_GRACE_S = 1.0; sys.argv[1:] = ['k']; sys.exit(shim.main())"
words = [sys.executable, "-c", run]
process = subprocess.Popen(words, stdin=open(plan), stdout=subprocess.DEVNULL)
ready = pathlib.Path(folder, "ready")
while not ready.exists(): time.sleep(0.01)
facts = json.loads(pathlib.Path(folder, "lab.shim.json").read_bytes())
pids = [facts["shim"][0], facts["kernel"][0]]
if sender == "manager":
    for pid in pids: os.kill(pid, signal.SIGTERM)
elif sender == "other":
    subprocess.run(["kill", "-TERM", *map(str, pids)], check=True)
else:
    ready.with_name("go").touch()
process.wait()
"""
DIES = "touch {ready}; while [ ! -e {go} ]; do sleep 0.02; done; exit 5"
IGNORES = "trap : TERM; " + DIES


def end_of(folder: Path, sender: str, script: str, *, cgroup: bool = True) -> dict[str, object]:
    ready, go = folder / "ready", folder / "go"
    plan = LaunchPlan(
        name="k",
        generation=7,
        argv=("/bin/sh", "-c", script.format(ready=ready, go=go)),
        env={},
        cwd="/",
        files=files_in(folder, facts="lab.shim.json"),
    )
    more = (("lock_file", str(folder / "lab.lock")), *([("cgroup", "1")] if cgroup else []))
    (folder / "plan").write_bytes(b"".join(plan_records(plan, *more)))
    place = str(Path(shim.__file__).parent)
    words = [sys.executable, "-c", PROCESS_1, place, str(folder), sender, str(folder / "plan")]
    subprocess.run(
        ["/usr/bin/unshare", "--pid", "--fork", "--mount-proc", "--kill-child", *words],
        check=True,
        timeout=60,
    )
    found: dict[str, object] = json.loads((folder / "exit").read_bytes())
    return found


@pytest.mark.parametrize(
    ("sender", "stopped", "signal"),
    [("manager", True, 15), ("other", False, 15), ("", False, None)],
)
def test_an_end_is_an_order_only_where_process_1_sent_the_signal(
    tmp_path: Path, sender: str, signal: int | None, *, stopped: bool
) -> None:
    found = end_of(tmp_path, sender, DIES)
    assert (found["unit_stopped"], found["signal"]) == (stopped, signal)


def test_a_kernel_that_ignores_the_order_is_killed_while_its_shim_can_say_so(
    tmp_path: Path,
) -> None:
    found = end_of(tmp_path, "manager", IGNORES)
    assert (found["unit_stopped"], found["signal"]) == (True, 9)


def test_a_shim_without_a_unit_takes_no_orders(tmp_path: Path) -> None:
    found = end_of(tmp_path, "manager", DIES, cgroup=False)
    assert (found["unit_stopped"], found["signal"]) == (False, 15)
