"""Uids on a server: one that goes from an account to another, and the largest there is."""

import json
import shlex
from collections.abc import Iterator

import pytest

from tests.conftest import wait_for
from tests.server.box import Box

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]
UID = 2_900_000_000
LARGEST_UID = 4_294_967_294
KEPT = "/var/lib/kconnd/aside"


@pytest.fixture
def cyd(box: Box) -> Iterator[str]:
    """Give a user with a kernel that remembers something; all of the uid is gone afterwards."""
    box.run(f"useradd -m -l -s /bin/bash -u {UID} cyd")
    box.run("kconnd-ctl start python3 && kconnd-ctl run python3 -c \"kept = 'cyds'\"", "cyd")
    yield "cyd"
    box.run(f"systemctl stop kconnd@{UID}.socket kconnd@{UID}.service 'kconnd-kernel-{UID}-*'")
    for user in ("cyd", "dan"):
        box.try_(f"userdel -rf {user}")
    # Nobody has the uid any more, so nothing of it is made again meanwhile.
    box.run(f"cd /var/lib/kconnd; rm -rf aside/{UID}-* u/{UID} owners/{UID} boot/{UID}")
    box.run(f"cd /run/kconnd; rm -rf aside/{UID}-* u/{UID}")


def reassign(box: Box) -> None:
    """Delete the account as an administrator who does not ask, and give its uid to another."""
    box.run(f"userdel -rf cyd 2>&1; useradd -m -l -s /bin/bash -u {UID} dan")
    wait_for(lambda: box.try_(f"test -e {KEPT}/{UID}-1/state").code == 0, "it to be put aside")


def test_a_new_account_with_an_old_uid_reaches_nothing_of_the_old_one(box: Box, cyd: str) -> None:
    pid, key = box.pid("python3", cyd), box.ctl("connection python3", cyd)["key"]
    generation = box.ctl("info python3", cyd)["generation"]
    kernel = f"kconnd-kernel-{UID}-python3-{generation}.service"
    reassign(box)
    # At once, before dan has asked for anything: by kconnd, and by the uid that owns it all.
    assert box.ctl("list", "dan")["kernels"] == []
    assert box.try_("kconnd-ctl logs python3", "dan").out == ""
    for path in (KEPT, "/run/kconnd/aside", f"/run/kconnd/aside/{UID}-1", f"{KEPT}/{UID}-1/state"):
        assert "denied" in box.try_(f"ls {path}", "dan").err
    assert key not in box.try_(f"cat /run/kconnd/u/{UID}/*.json", "dan").out
    # What dan starts has the same name, a unit of its own, and nothing of the old one in it.
    box.run("kconnd-ctl start python3", "dan")
    assert "NameError" in box.try_("kconnd-ctl run python3 -c 'print(kept)'", "dan").err
    assert box.pid("python3", "dan") != pid
    assert kernel not in box.run(f"cat /proc/{box.pid('python3', 'dan')}/cgroup").out
    # The work was ended by nobody, and whoever has to know is told.
    box.run(f"kill -0 {pid}")
    for user in ("dan", "root"):
        found = box.try_("kconnd-ctl doctor --json", user).json()["findings"]
        told = [one for one in found if f"uid {UID} was another account, cyd" in one["what"]]
        assert [one["level"] for one in told] == ["warn"], user
        assert kernel in told[0]["cure"]
    said = box.run(f"journalctl -o cat --no-pager KCONND_EVENT=put-aside KCONND_UID={UID}").out
    assert f"uid {UID} was the account cyd and is dan now" in said
    assert kernel in said
    # Its end, and what it says at that, goes to what was put aside.
    box.run(f"systemctl stop {kernel}")
    exit_file = f"{KEPT}/{UID}-1/state/kernels/python3/exit.json"
    wait_for(lambda: box.try_(f"test -e {exit_file}").code == 0, "how it ended")
    assert box.try_(f"test -e /var/lib/kconnd/u/{UID}/kernels/python3/exit.json").code == 1
    assert box.ctl("info python3", "dan")["state"] == "running"
    assert kernel not in box.try_("kconnd-ctl doctor --json", "dan").out


def test_a_daemon_of_an_account_that_has_gone_gets_nothing(box: Box, cyd: str) -> None:
    """The front door is stopped, so nobody has put the files aside yet."""
    box.run("systemctl stop kconnd.service kconnd.socket")
    unit = f"kconnd@{UID}.service"
    try:
        box.run(f"systemctl stop {unit}; userdel -rf {cyd} 2>&1; useradd -m -l -u {UID} dan")
        assert box.try_(f"systemctl start {unit}").code != 0
        said = box.run(f"journalctl -o cat --no-pager -u {unit}").out
        assert f"the state of uid {UID} belongs to the account cyd, not to dan" in said
    finally:
        box.run("systemctl start kconnd.socket kconnd.service")
    wait_for(lambda: box.try_(f"test -e {KEPT}/{UID}-1/state").code == 0, "it to be put aside")
    assert box.ctl("list", "dan")["kernels"] == []


def test_a_renamed_account_is_given_back_all_of_it(box: Box, cyd: str) -> None:
    pid = box.pid("python3", cyd)
    box.run("cd /etc; sed -i 's/^cyd:/dan:/' passwd shadow group gshadow")  # as usermod -l does
    wait_for(lambda: box.try_(f"test -e {KEPT}/{UID}-1/state").code == 0, "it to be put aside")
    box.run("kconnd-ctl start python3@new", "dan")
    done = box.run(f"/opt/kconnd/bin/kconnd-front --hand-over {UID}")
    assert f"dan, uid {UID}, has the files back that were put aside of cyd" in done.out
    assert box.run("kconnd-ctl run python3 -c 'print(kept)'", "dan").out == "cyds\n"
    assert box.pid("python3", "dan") == pid
    box.run("kconnd-ctl stop python3 && kconnd-ctl start python3", "dan")
    said = box.try_(f"/opt/kconnd/bin/kconnd-front --hand-over {box.uid('eve')}")
    assert (said.code, "there is none" in said.err) == (4, True)


def test_a_daemon_alone_begins_anew_for_another_account(box: Box) -> None:
    """Without the front door, where what is named by uid is in /tmp and nobody is root."""
    run, socket = f"/tmp/kconnd-{UID + 1}", f"--socket /tmp/kconnd-{UID + 1}/kconnd.sock"
    daemon = "setsid /opt/kconnd/bin/kconnd >/dev/null 2>&1 & disown"
    box.run(f"useradd -m -l -s /bin/bash -u {UID + 1} cyd")
    try:
        box.run(daemon, "cyd")
        wait_for(lambda: box.try_(f"test -S {run}/kconnd.sock").code == 0, "the daemon")
        box.run(f"kconnd-ctl {socket} start python3", "cyd")
        pid = json.loads(box.run(f"kconnd-ctl {socket} info python3 --json", "cyd").out)["pid"]
        box.run(f"userdel -rf cyd 2>&1; useradd -m -l -s /bin/bash -u {UID + 1} dan")
        held = f"flock -n {run}/daemon.lock true"
        wait_for(lambda: box.try_(held).code == 0, "the daemon of the old account to end")
        box.run(daemon, "dan")
        wait_for(lambda: box.try_(f"kconnd-ctl {socket} list", "dan").code == 0, "dan's daemon")
        assert json.loads(box.run(f"kconnd-ctl {socket} list --json", "dan").out)["kernels"] == []
        box.run(f"kconnd-ctl {socket} start python3", "dan")
        assert box.run(f"kconnd-ctl {socket} run python3 -c 'print(6 * 7)'", "dan").out == "42\n"
        box.run(f"kill -0 {pid}")
        told = box.try_(f"kconnd-ctl {socket} doctor", "dan").out
        assert f"{run}.cyd." in told
        box.run(f"kconnd-ctl {socket} stop python3", "dan")
    finally:
        box.try_(
            f"pkill -KILL -u {UID + 1}; rm -rf {run} {run}.*; userdel -rf dan; userdel -rf cyd"
        )


def test_the_largest_uid_works_with_every_launcher(box: Box) -> None:
    box.run(f"useradd -m -l -s /bin/bash -u {LARGEST_UID} max2")
    try:
        box.run("mkdir -p ~/.config/kconnd/configs", "max2")
        for name, rest in (("f", "launcher: fork"), ("l", "launcher: local"), ("w", "warm: 1")):
            profile = shlex.quote(f"kernel: python3\n{rest}\n")
            box.run(f"printf %s {profile} > ~/.config/kconnd/configs/{name}.yaml", "max2")
        box.run("kconnd-ctl reload; kconnd-ctl start python3 f l w", "max2")
        say = shlex.quote("import os; print(os.getuid())")
        for name, launcher in (("python3", "systemd"), ("f", "fork"), ("l", "local")):
            assert box.run(f"kconnd-ctl run {name} -c {say}", "max2").out == f"{LARGEST_UID}\n"
            assert box.ctl(f"info {name}", "max2")["launcher"] == launcher
        for owner in ("max2", LARGEST_UID):
            assert box.ctl(f"info {owner}/python3", "root")["state"] == "running"
        found = json.loads(box.run("kconnd-ctl list --all-users --json").out)["kernels"]
        assert sum(one["uid"] == LARGEST_UID and one["pid"] is not None for one in found) == 4
        refused = box.try_("kconnd-ctl info max2/python3", "eve")
        assert (refused.code, "may not" in refused.err) == (5, True)
        assert box.run("kconnd-ctl doctor", "max2").code == 0
        box.run("kconnd-ctl stop --all --yes", "max2")
    finally:
        box.try_("kconnd-ctl stop --all --yes", "max2")
        box.run(f"systemctl stop kconnd@{LARGEST_UID}.socket kconnd@{LARGEST_UID}.service")
        box.try_("userdel -rf max2")


def test_a_uid_that_systemd_knows_no_user_by_is_told_of(box: Box) -> None:
    box.run("useradd -m -l -s /bin/bash -u 65535 odd")
    done = box.try_("kconnd-ctl list", "odd")
    assert (done.code, "uid 65535 cannot have a daemon" in done.err) == (5, True)
    box.run("userdel -rf odd")
