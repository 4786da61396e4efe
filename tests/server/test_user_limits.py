"""The limits of a kernel without the front door: a scope of the user's own systemd enforces them.

The control groups of the box are those of version 1, of which systemd delegates none to a user.
A test delegates those of memory and tasks, as systemd does with version 2.
"""

import shlex
from collections.abc import Iterator

import pytest

from kconnd.core.limits import NOT_DELEGATED, describe_unenforced
from tests.conftest import wait_for
from tests.server.box import Box

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]
SOCKET = "/tmp/max.sock"  # a daemon of his own, past the front door
LIMITS = "limits: {memory: 150M, tasks: 60, cpu: 50%, open_files: 300}\nrestart: {policy: no}\n"
KINDS = {"small": "", "forked": "launcher: fork\n", "ready": "warm: 1\n"}
GREEDY = "x = bytearray(1 << 30)"
REASON = "killed because it exceeded its memory limit of 150M (limits.memory in its profile)"


@pytest.fixture(scope="module")
def session(box: Box) -> Iterator[str]:
    """Give what runs a command in a scope of max's own systemd, with profiles of his."""
    uid = box.uid("max")
    box.run("loginctl enable-linger max")
    box.run(f"systemctl restart user@{uid}.service")  # see test_logout
    wait_for(lambda: box.try_(f"test -S /run/user/{uid}/bus").code == 0, "his bus")
    for name, rest in KINDS.items():
        path = f"/home/max/.config/kconnd/configs/{name}.yaml"
        box.write(path, f"kernel: python3\n{rest}{LIMITS}")
    box.run("chown -R max: /home/max/.config")
    yield f"export XDG_RUNTIME_DIR=/run/user/{uid} KCONND_SOCKET={SOCKET}; systemd-run -q --user"
    end_daemon(box)
    box.run("loginctl disable-linger max")


def end_daemon(box: Box) -> None:
    reply = box.try_(f"KCONND_SOCKET={SOCKET} kconnd-ctl health --json", "max")
    if reply.code == 0:
        box.run(f"kill {reply.json()['pid']}")


def test_what_no_scope_enforces_is_reported_with_the_reason(box: Box, session: str) -> None:
    done = box.run(f"{session} --scope kconnd-ctl start small", "max")
    reported = describe_unenforced(dict.fromkeys(("memory", "cpu", "tasks"), NOT_DELEGATED))
    assert done.err == f"kconnd-ctl: small: {reported}\n"
    found = box.run(f"KCONND_SOCKET={SOCKET} kconnd-ctl info small --json", "max").json()
    assert (found["limits"], found["limits_unenforced"]) == ({"open_files": 300}, reported)
    box.run(f"KCONND_SOCKET={SOCKET} kconnd-ctl stop --all --yes", "max")
    end_daemon(box)


def test_a_scope_enforces_what_is_delegated(box: Box, session: str) -> None:
    uid = box.uid("max")
    for controller in ("memory", "pids"):
        folder = f"/sys/fs/cgroup/{controller}/user.slice/user-{uid}.slice/user@{uid}.service"
        box.run(f"mkdir -p {folder} && chown -R max: {folder}")
    # His systemd looks which controllers it has when it begins, and its restart takes them away.
    box.run(f"XDG_RUNTIME_DIR=/run/user/{uid} systemctl --user daemon-reexec", "max")
    ctl = f"KCONND_SOCKET={SOCKET} kconnd-ctl"
    reported = describe_unenforced({"cpu": NOT_DELEGATED})
    enforced = {"memory": 150 << 20, "tasks": 60, "open_files": 300}
    for name in KINDS:
        done = box.run(f"{session} --scope kconnd-ctl start {name}", "max")
        assert done.err == f"kconnd-ctl: {name}: {reported}\n"
        found = box.run(f"{ctl} info {name} --json", "max").json()
        assert (found["limits"], found["limits_unenforced"]) == (enforced, reported)
        done = box.try_(f"{ctl} run {name} -c {shlex.quote(GREEDY)}", "max")
        assert done.code == 3
        assert REASON in done.err
        last = box.run(f"{ctl} info {name} --json", "max").json()["last_exit"]
        assert (last["reason"], last["signal"]) == (REASON, 9)
