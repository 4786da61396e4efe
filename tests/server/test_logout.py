"""A logout with KillUserProcesses=yes kills a daemon in the session, and kconnd warns of it before.

The tests start and stop the scope of a login session as logind does.
"""

from collections.abc import Iterator

import pytest

from tests.conftest import wait_for
from tests.server.box import Box

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]
SOCKET = "/tmp/eves.sock"  # a daemon of her own, past the front door


@pytest.fixture
def login(box: Box) -> Iterator[str]:
    """Give a prefix that runs a command in eve's login session, which ends at her logout."""
    box.write("/etc/systemd/logind.conf.d/kill.conf", "[Login]\nKillUserProcesses=yes\n")
    run = f"systemd-run -q --scope --uid=eve --slice=user-{box.uid('eve')}.slice --unit=session-77"
    yield f"{run} env HOME=/home/eve KCONND_SOCKET={SOCKET}"
    box.try_("systemctl stop session-77.scope")
    box.run("rm /etc/systemd/logind.conf.d/kill.conf")


def test_start_says_what_a_logout_will_end_and_it_does(box: Box, login: str) -> None:
    done = box.run(f"{login} kconnd-ctl start python3")
    assert "python3 is ready" in done.out
    assert "a logout will end the daemon that is started now, and its kernels" in done.err
    assert "loginctl enable-linger && systemd-run --user --scope kconnd-ctl start" in done.err
    ask = f"KCONND_SOCKET={SOCKET} kconnd-ctl info python3 --json"
    pid = int(box.run(ask, "eve").json()["pid"])
    box.run("systemctl stop session-77.scope")
    wait_for(lambda: box.try_(f"kill -0 {pid}").code != 0, "the kernel to be ended")


def test_the_cure_that_it_names_is_one(box: Box, login: str) -> None:
    """With lingering, and in a unit of the user's own systemd, nothing is said or ended."""
    uid = box.uid("eve")
    box.run("loginctl enable-linger eve")
    wait_for(lambda: _lingers(box), "eve to linger, after a login that logind is still ending")
    # A manager from before a daemon-reexec, as other tests do one, cannot make scopes any more.
    box.run(f"systemctl restart user@{uid}.service")
    wait_for(lambda: box.try_(f"test -S /run/user/{uid}/bus").code == 0, "their bus")
    apart = "systemd-run -q --user --scope kconnd-ctl start python3"
    done = box.run(f"{login} XDG_RUNTIME_DIR=/run/user/{uid} {apart}")
    assert "python3 is ready" in done.out
    assert "logout" not in done.err
    box.try_("systemctl stop session-77.scope")
    asking = f"export XDG_RUNTIME_DIR=/run/user/{uid} KCONND_SOCKET={SOCKET}"
    found = box.run(f"{asking}; kconnd-ctl info python3 --json", "eve").json()
    assert found["state"] == "running"
    box.run(f"{asking}; kconnd-ctl stop python3", "eve")
    daemon = box.run(f"{asking}; kconnd-ctl health --json", "eve").json()["pid"]
    box.run(f"kill {daemon}; loginctl disable-linger eve")


def _lingers(box: Box) -> bool:
    """Tell whether eve's own systemd runs and is not one that a last logout ends."""
    state = box.try_("loginctl show-user eve -P State").out.strip()
    manager = f"systemctl is-active --quiet user@{box.uid('eve')}.service"
    return state == "lingering" and box.try_(manager).code == 0
