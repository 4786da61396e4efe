"""The limits of real kernels of a user without a systemd: what holds, and what is said of the rest.

`tests/server/test_user_limits.py` shows them with a systemd of the user's.
"""

from pathlib import Path

import pytest

from kconnd.system.machine import own_user
from kconnd.system.user_scope import describe_missing_limits, find_user_manager
from tests.end_to_end.daemon import IPYKERNEL, Daemon, run

LIMITS = "limits: {memory: 64M, tasks: 500, open_files: 300}\nrestart: {policy: no}\n"
SHOW = "import resource; print(resource.getrlimit(resource.RLIMIT_NOFILE))"


@pytest.mark.parametrize("launcher", ["local", "fork"])
def test_limits_that_nothing_enforces_are_reported(folder: Path, launcher: str) -> None:
    manager = find_user_manager(own_user())
    if not manager.obstacle:
        pytest.skip("this user has a systemd that enforces limits")
    unenforced = describe_missing_limits(own_user(), {"memory": 1, "tasks": 1, "open_files": 1})
    assert unenforced.startswith("limits.memory, limits.tasks are not enforced: ")
    with Daemon(folder) as daemon:
        daemon.profile("lab", f"{IPYKERNEL}launcher: {launcher}\n{LIMITS}")
        daemon.start()
        started = daemon.post("lab", "start")
        assert (started["launcher"], started["launcher_note"]) == (launcher, None)
        assert started["limits"] == {"open_files": 300}
        assert started["limits_unenforced"] == unenforced
        assert run(started["connection_file"], SHOW) == "(300, 300)\n"
        length = run(started["connection_file"], "x = bytearray(200 << 20); print(len(x))")
        assert int(length) == 200 << 20
        daemon.kill()
        daemon.start()
        adopted = daemon.info("lab")
        assert adopted["pid"] == started["pid"]
        assert adopted["limits_unenforced"] == unenforced
        daemon.post("lab", "stop", now=True)
        assert daemon.info("lab")["limits_unenforced"] is None
