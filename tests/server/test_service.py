"""kconnd on a shared server: a booted systemd, the real installation, and users of it."""

import json
import os
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest

from kconnd.core.paths import FRONT_SOCKET, daemon_cgroup
from kconnd.system.profiles.settings_file import SETTLE_DELAY_S
from tests.conftest import wait_for
from tests.page_blocks import links
from tests.server.box import ROOT, USERS, Box

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]
CONFIGS = "/etc/kconnd/configs"
DOC = Path("/usr/share/doc/kconnd")
REMEMBER = "run python3 -c 'kept = 6 * 7'"


@pytest.fixture
def kernel(box: Box) -> int:
    """Give the pid of a kernel of ada's that remembers something."""
    box.run("kconnd-ctl start python3", "ada")
    box.run(f"kconnd-ctl {REMEMBER}", "ada")
    return box.pid("python3", "ada")


class WriteProfile(Protocol):
    """Writes a profile of the machine, and has the daemons of users read it."""

    def __call__(self, name: str, text: str, *users: str) -> None: ...


@pytest.fixture
def profile(box: Box) -> Iterator[WriteProfile]:
    """Give what writes profiles of the machine, which are removed after the test."""
    names: list[str] = []
    readers: set[str] = set()

    def reload() -> None:
        box.run("systemctl reload kconnd.service")
        for user in sorted(readers):
            box.try_("kconnd-ctl reload", user)

    def write(name: str, text: str, *users: str) -> None:
        names.append(name)
        readers.update(users)
        box.write(f"{CONFIGS}/{name}.yaml", text)
        reload()

    yield write
    box.run(f"rm -f {' '.join(f'{CONFIGS}/{name}.yaml' for name in names)}")
    reload()


def remembers(box: Box, pid: int) -> bool:
    assert box.pid("python3", "ada") == pid
    return box.run("kconnd-ctl run python3 -c 'print(kept)'", "ada").out == "42\n"


# --- the service


def test_the_units_are_sound_and_the_front_door_is_closed_to_the_rest(box: Box) -> None:
    assert box.run("systemd-analyze verify /etc/systemd/system/kconnd*").err == ""
    shown = box.run("systemd-analyze security kconnd.service --no-pager").out
    exposure = float(shown.rpartition("exposure level for kconnd.service:")[2].split()[0])
    assert exposure <= 3.0


def test_the_page_that_a_unit_names_is_installed_with_all_that_it_links_to(box: Box) -> None:
    for unit in ("kconnd.service", "kconnd@0.service", "kconnd-aside@0.service"):
        named = box.run(f"systemctl show -P Documentation {unit}").out.strip()
        assert named == f"file://{DOC}/README.md"
    shown = {Path(path) for path in box.run(f"find {DOC} -type f").out.splitlines()}
    assert {DOC / file.relative_to(ROOT) for file in linked_files(ROOT / "README.md")} <= shown


def linked_files(page: Path) -> set[Path]:
    """Collect a page and all files that its links lead to, directly or by other pages."""
    reached, pages = {page}, [page]
    while pages:
        place = pages.pop()
        targets = {link.partition("#")[0] for link in links(place) if "://" not in link} - {""}
        new = {(place.parent / target).resolve() for target in targets} - reached
        pages += [target for target in new if target.suffix == ".md"]
        reached |= new
    return reached


def test_the_first_command_of_a_user_is_all_it_takes(box: Box, kernel: int) -> None:
    uid = box.uid("ada")
    assert box.run(f"stat -c %u /proc/{kernel}").out == f"{uid}\n"
    info = box.ctl("info python3", "ada")
    assert info["connection_file"] == f"/run/kconnd/u/{uid}/kernel-python3.json"
    assert info["log_file"].startswith(f"/var/lib/kconnd/u/{uid}/")
    slice_ = box.run(f"systemctl show -P Slice kconnd@{uid}.service").out
    assert slice_ == f"kconnd-{uid}.slice\n"
    assert "users have a daemon" in box.run("systemctl show -P StatusText kconnd.service").out


@pytest.mark.parametrize(
    "what",
    [
        "systemctl restart kconnd@{uid}.service",
        "systemctl stop kconnd@{uid}.service",
        "systemctl kill -s KILL kconnd@{uid}.service --kill-whom=main",
        "systemctl reload kconnd@{uid}.service",
        "systemctl stop kconnd@{uid}.socket kconnd@{uid}.service",
        "systemctl restart kconnd.service",
        "systemctl stop kconnd.service kconnd.socket; systemctl start kconnd.service",
        "systemctl kill -s KILL kconnd.service",
        "systemctl reload kconnd.service",
        "systemctl daemon-reload",
    ],
)
def test_nothing_that_happens_to_our_services_ends_a_kernel(
    box: Box, kernel: int, what: str
) -> None:
    box.run(what.format(uid=box.uid("ada")))
    wait_for(lambda: box.try_("kconnd-ctl list", "ada").code == 0, "the daemon")
    assert remembers(box, kernel)


def test_a_daemon_that_hangs_is_replaced_by_the_watchdog(box: Box, kernel: int) -> None:
    unit = f"kconnd@{box.uid('ada')}.service"
    box.write("/etc/systemd/system/kconnd@.service.d/watchdog.conf", "[Service]\nWatchdogSec=2\n")
    try:
        box.run(f"systemctl daemon-reload; systemctl restart {unit}")
        before = box.main_pid(unit)
        box.run(f"kill -STOP {before}")
        wait_for(lambda: box.main_pid(unit) not in {0, before}, "a new daemon")
        assert remembers(box, kernel)
    finally:
        box.run("rm -r /etc/systemd/system/kconnd@.service.d; systemctl daemon-reload")


def test_a_front_door_that_hangs_is_replaced_by_the_watchdog(box: Box, kernel: int) -> None:
    folder = "/etc/systemd/system/kconnd.service.d"
    box.write(f"{folder}/watchdog.conf", "[Service]\nWatchdogSec=2\n")
    try:
        box.run("systemctl daemon-reload; systemctl restart kconnd.service")
        before = box.main_pid("kconnd.service")
        box.run(f"kill -STOP {before}")
        wait_for(lambda: box.main_pid("kconnd.service") not in {0, before}, "a new front door")
        assert box.run("kconnd-ctl list --all-users").code == 0
        assert remembers(box, kernel)
    finally:
        box.run(f"rm -r {folder}; systemctl daemon-reload; systemctl restart kconnd.service")


def test_a_front_door_whose_bus_hangs_is_left_alone_by_the_watchdog(box: Box, kernel: int) -> None:
    """It says to who asks that the manager does not answer, and serves who needs none."""
    folder = "/etc/systemd/system/kconnd.service.d"
    box.write(f"{folder}/watchdog.conf", "[Service]\nWatchdogSec=2\n")
    bus = box.main_pid("dbus.service")
    front = f"curl -s --unix-socket {FRONT_SOCKET} http://x"
    try:
        box.run("systemctl daemon-reload; systemctl restart kconnd.service")
        before = box.main_pid("kconnd.service")
        box.run(f"kill -STOP {bus}")
        said = json.loads(box.try_(f"{front}/v1/health").out)  # takes all of the time limit
        assert "it timed out" in said["error"]["message"]
        assert box.run(f"{front}/v1/openapi.json").json()["paths"]
    finally:
        box.run(f"kill -CONT {bus}")
        box.run(f"rm -r {folder}; systemctl daemon-reload")
    assert box.main_pid("kconnd.service") == before
    assert remembers(box, kernel)
    box.run("systemctl restart kconnd.service")


def test_a_daemon_starts_with_whoever_connects_to_its_socket(box: Box, kernel: int) -> None:
    unit = f"kconnd@{box.uid('ada')}.service"
    box.run(f"systemctl stop {unit}")
    assert box.main_pid(unit) == 0
    assert box.pid("python3", "ada") == kernel
    assert box.main_pid(unit) > 0


def test_the_front_door_starts_with_whoever_knocks(box: Box, kernel: int) -> None:
    box.run("systemctl stop kconnd.service")
    assert box.main_pid("kconnd.service") == 0
    assert box.run(f"curl -s --unix-socket {FRONT_SOCKET} http://x/v1/health", "bob").json()["pid"]
    assert box.main_pid("kconnd.service") > 0
    assert remembers(box, kernel)


def test_one_users_daemon_is_no_business_of_anothers(box: Box, kernel: int) -> None:
    box.run("kconnd-ctl start python3", "bob")
    bobs, daemon = box.pid("python3", "bob"), box.main_pid(f"kconnd@{box.uid('bob')}.service")
    box.run(f"systemctl kill -s KILL kconnd@{box.uid('ada')}.service")
    assert box.main_pid(f"kconnd@{box.uid('bob')}.service") == daemon
    assert box.pid("python3", "bob") == bobs
    box.run("kconnd-ctl stop python3", "bob")
    assert remembers(box, kernel)


def test_an_upgrade_leaves_live_kernels_alone(box: Box, kernel: int) -> None:
    unit = f"kconnd@{box.uid('ada')}.service"
    before = box.main_pid(unit)
    box.run(f"{__file__.rpartition('/tests/')[0]}/scripts/install")
    assert box.main_pid(unit) != before
    assert remembers(box, kernel)


INSTALL = f"{__file__.rpartition('/tests/')[0]}/scripts/install"


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        ("chmod 777 /opt/mine", "others can write to /opt/mine"),
        ("chgrp users /opt/mine; chmod g+w /opt/mine", "others can write to /opt/mine"),
        ("chown eve /opt/mine", "/opt/mine belongs to uid"),
        (
            "mkdir /srv/open; chmod 1777 /srv/open; rmdir /opt/mine; ln -s /srv/open /opt/mine",
            "/srv",
        ),
    ],
)
def test_nothing_is_installed_where_others_can_write(box: Box, harm: str, why: str) -> None:
    box.run(f"mkdir /opt/mine; {harm}")
    done = box.try_(f"{INSTALL} --prefix /opt/mine/kconnd")
    assert (done.code, why in done.err) == (1, True), done.err
    assert box.try_("test -e /opt/mine/kconnd").code == 1
    box.run("rm -rf /opt/mine /srv/open")


@pytest.mark.timeout(600)  # it installs twice
def test_an_environment_of_another_python_is_left_to_the_kernels_in_it(
    box: Box, kernel: int
) -> None:
    before = box.run("cat /opt/kconnd/pyvenv.cfg").out
    box.run("touch /opt/kconnd/mark")
    box.run("sed -i 's/^version = .*/version = 3.10.7/' /opt/kconnd/pyvenv.cfg")
    done = box.try_(INSTALL)
    assert done.code == 1
    assert "the environment /opt/kconnd is of Python 3.10, not 3.11" in done.err
    named = done.err.partition("(pids: ")[2].partition(")")[0].split()
    assert {str(kernel), box.run(f"ps -o ppid= {kernel}").out.strip()} <= {*named}
    assert "--prefix /opt/kconnd-3.11" in done.err
    # As the hint says: beside it, by which new daemons are the new ones, and kernels live on.
    box.run(f"{INSTALL} --prefix /opt/other")
    shown = box.run("systemctl show -P ExecStart kconnd.service").out
    assert "path=/opt/other/bin/kconnd-front" in shown
    assert box.run("readlink /usr/local/bin/kconnd-ctl").out == "/opt/other/bin/kconnd-ctl\n"
    assert remembers(box, kernel)
    # A patch of the same version is no other Python.
    box.write("/opt/kconnd/pyvenv.cfg", before.replace("version = 3.11", "version = 3.11.99 #"))
    box.run(INSTALL)
    box.run("test -e /opt/kconnd/mark && rm /opt/kconnd/mark && rm -r /opt/other")
    box.write("/opt/kconnd/pyvenv.cfg", before)
    assert remembers(box, kernel)


def test_kernels_for_boot_start_with_the_machine(box: Box) -> None:
    """The user never logs in; starting kconnd's units stands in for booting the machine."""
    box.run("mkdir -p ~/.config/kconnd/configs", "bob")
    profile = "kernel: python3\\nstart: boot\\n"
    box.run(f"printf '{profile}' > ~/.config/kconnd/configs/always.yaml", "bob")
    box.run("kconnd-ctl reload; kconnd-ctl wait always --timeout 30s", "bob")
    uid = box.uid("bob")
    wait_for(lambda: box.try_(f"test -e /var/lib/kconnd/boot/{uid}").code == 0, "the mark")
    box.run("kconnd-ctl stop always", "bob")
    box.run(f"systemctl stop kconnd@{uid}.socket kconnd@{uid}.service kconnd.service")
    box.run(f"rm -r /run/kconnd/u/{uid} /var/lib/kconnd/u/{uid}")
    box.run("systemctl start kconnd.service")
    assert box.main_pid(f"kconnd@{uid}.service") > 0
    box.run("kconnd-ctl wait always --timeout 30s", "bob")
    box.run("rm ~/.config/kconnd/configs/always.yaml; kconnd-ctl reload", "bob")
    box.run("kconnd-ctl stop always --yes", "bob")
    wait_for(lambda: box.try_(f"test -e /var/lib/kconnd/boot/{uid}").code == 1, "the mark to go")


def test_one_user_can_run_it_without_the_front_door(box: Box) -> None:
    """As a unit of their own systemd, on a machine where nobody has installed the service."""
    uid = box.uid("eve")
    box.run("loginctl enable-linger eve")
    wait_for(
        lambda: box.try_(f"test -S /run/user/{uid}/systemd/private").code == 0, "their systemd"
    )
    mine = (
        f"export XDG_RUNTIME_DIR=/run/user/{uid} KCONND_SOCKET=/run/user/{uid}/kconnd/kconnd.sock"
    )
    box.run(f"{mine}; systemctl --user start kconnd && kconnd-ctl start python3", "eve")
    pid = int(box.run(f"{mine}; kconnd-ctl info python3 --json", "eve").json()["pid"])
    box.run(f"{mine}; systemctl --user restart kconnd", "eve")
    after = box.run(f"{mine}; kconnd-ctl info python3 --json", "eve").json()
    assert (after["pid"], after["launcher"]) == (pid, "local")
    assert (
        "1 of 1 kernels are up"
        in box.run(f"{mine}; systemctl --user show -P StatusText kconnd", "eve").out
    )
    box.run(f"{mine}; kconnd-ctl stop python3; systemctl --user stop kconnd", "eve")
    box.run("loginctl disable-linger eve")


# --- kernels as units


def test_the_launcher_keeps_the_contract_of_all_launchers(box: Box) -> None:
    version = "import sys; print(sys.implementation.cache_tag)"
    theirs = box.run(f"/opt/kconnd/bin/python -c '{version}'").out.strip()
    if theirs != sys.implementation.cache_tag:
        pytest.skip(f"a shim that this Python has compiled is none for the service's, {theirs}")
    root = __file__.rpartition("/tests/")[0]
    command = f"cd {root} && {sys.executable} -m pytest -q -p no:cacheprovider tests/launchers"
    out = box.as_daemon(f"{command} -k systemd", 0).out
    assert "passed" in out
    assert "skipped" not in out


def test_a_kernel_is_a_unit_in_its_owners_slice(box: Box, kernel: int) -> None:
    uid = box.uid("ada")
    assert box.ctl("info python3", "ada")["launcher"] == "systemd"
    group = box.run(f"cat /proc/{kernel}/cgroup").out
    assert f"/kconnd.slice/kconnd-{uid}.slice/kconnd-kernel-{uid}-python3-" in group
    # One that were still starting would be ended once its time for that is over.
    unit = f"'kconnd-kernel-{uid}-python3-*'"
    wait_for(lambda: box.run(f"systemctl show -P SubState {unit}").out == "running\n", "a start")
    assert box.run(f"systemctl show -P User 'kconnd-kernel-{uid}-python3-*'").out == f"{uid}\n"


@pytest.mark.parametrize(("launcher", "kind"), [("auto", "service"), ("fork", "scope")])
def test_a_memory_limit_is_enforced_and_named(
    box: Box, profile: WriteProfile, launcher: str, kind: str
) -> None:
    limits = "limits: {memory: 150M, tasks: 60, cpu: 50%, open_files: 300}"
    rest = f"restart: {{policy: no}}\nlauncher: {launcher}\n"
    profile("small", f"kernel: python3\n{limits}\n{rest}", "bob")
    box.run("kconnd-ctl start small", "bob")
    found = box.ctl("info small", "bob")
    assert (found["launcher_note"], kind == "scope") == (None, found["launcher"] == "fork")
    unit = f"kconnd-kernel-{box.uid('bob')}-small-{found['generation']}.{kind}"
    shown = box.run(f"systemctl show -p MemoryMax -p TasksMax -p CPUQuotaPerSecUSec {unit}").out
    beside = 1 if kind == "scope" else 2  # the shim, and systemd's process for PAM
    assert set(shown.split()) == {
        f"MemoryMax={150 << 20}",
        f"TasksMax={60 + beside}",
        "CPUQuotaPerSecUSec=500ms",
    }
    assert found["limits_unenforced"] is None
    assert found["limits"] == {"memory": 150 << 20, "tasks": 60, "cpu": 0.5, "open_files": 300}
    say = "import resource; print(resource.getrlimit(resource.RLIMIT_NOFILE))"
    assert box.run(f"kconnd-ctl run small -c '{say}'", "bob").out == "(300, 300)\n"
    # What the owner asks for can be less than what the machine's profile says, and not more.
    greedy = {"name": "small", "generation": 7, "program": "/bin/true", "plan": "/x"}
    body = json.dumps({**greedy, "limits": {"memory": 8 << 30, "tasks": 5}})
    front = f"curl -s --unix-socket {FRONT_SOCKET} http://x/v1/units"
    reply = box.as_daemon(f"{front} -d {shlex.quote(body)}", box.uid("bob"))
    wanted = {"memory": 150 << 20, "tasks": 5, "cpu": 0.5, "open_files": 300}
    assert reply.json()["limits"] == wanted
    done = box.try_("kconnd-ctl run small -c 'x = bytearray(1 << 30)'", "bob")
    assert (done.code, "memory limit" in done.err) == (3, True)
    wait_for(lambda: box.ctl("info small", "bob")["state"] == "failed", "it to be told")
    last = box.ctl("info small", "bob")["last_exit"]
    reason = "killed because it exceeded its memory limit of 150M (limits.memory in its profile)"
    assert (last["reason"], last["signal"]) == (reason, 9)


def test_a_limit_that_all_kernels_of_a_user_reached_is_not_blamed_on_one(
    box: Box, profile: WriteProfile, settings: Callable[[str], None]
) -> None:
    rest = "kernel: python3\nrestart: {policy: no}\n"
    settings("quotas: {memory: 400M}\n")
    profile("free", rest, "bob")
    profile("wide", f"{rest}limits: {{memory: 4G}}\n", "bob")
    slice_ = f"kconnd-{box.uid('bob')}.slice"
    shared = "which counts all kernels of its user together"
    for name in ("free", "wide"):
        box.run(f"kconnd-ctl start {name}", "bob")
        assert box.run(f"systemctl show -P MemoryMax {slice_}").out == f"{400 << 20}\n"
        box.try_(f"kconnd-ctl run {name} -c 'x = bytearray(1 << 30)'", "bob")
        box.try_(f"kconnd-ctl wait {name} --for stopped", "bob")
        last = box.ctl(f"info {name}", "bob")["last_exit"]
        assert last["reason"] == f"killed because of the memory limit of {slice_}, {shared}"


def test_limits_that_an_administrator_sets_for_a_user_hold_for_kernels(
    box: Box, profile: WriteProfile
) -> None:
    box.write(
        "/etc/security/limits.d/ours.conf",
        "bob hard nofile 777\nbob soft nofile 777\nbob - core 4096\n",
    )
    profile("fewer", "kernel: python3\nlimits: {open_files: 300}\n", "bob")
    profile("more", "kernel: python3\nlimits: {open_files: 5000, tasks: 60}\n", "bob")
    names = ("NOFILE", "CORE")
    limits = ", ".join(f"resource.getrlimit(resource.RLIMIT_{name})" for name in names)
    for kernel, files in (("python3", 777), ("fewer", 300), ("more", 777)):
        out = box.run(f"kconnd-ctl run {kernel} -c 'import resource; print([{limits}])'", "bob").out
        assert out == f"[({files}, {files}), ({4096 << 10}, {4096 << 10})]\n", kernel
        # It is in its unit, not in a session, and all of it is gone after a stop.
        group = box.run(f"cat /proc/{box.pid(kernel, 'bob')}/cgroup").out
        assert f"kconnd-kernel-{box.uid('bob')}-{kernel}-" in group
        assert "session" not in group
    box.run("kconnd-ctl stop python3 fewer more", "bob")
    units = f"systemctl list-units --all --plain --no-legend 'kconnd-kernel-{box.uid('bob')}-*'"
    wait_for(lambda: box.run(units).out == "", "the units to be gone")
    box.run("rm /etc/security/limits.d/ours.conf")


def test_a_warm_kernel_is_handed_over_and_is_in_a_unit_of_its_own(
    box: Box, profile: WriteProfile
) -> None:
    profile("ready", "kernel: python3\nwarm: 1\nlimits: {tasks: 50}\n", "bob")
    wait_for(lambda: box.ctl("health", "bob")["warm"] == 1, "it to be ready")
    box.run("kconnd-ctl start ready", "bob")
    found = box.ctl("info ready", "bob")
    assert (found["launcher"], found["launcher_note"]) == ("systemd", "it was kept warm")
    group = box.run(f"cat /proc/{found['pid']}/cgroup").out
    assert f"kconnd-kernel-{box.uid('bob')}-ready\\x7e" in group
    box.run("kconnd-ctl stop ready", "bob")
    box.run(f"rm {CONFIGS}/ready.yaml")
    box.run("kconnd-ctl reload", "bob")
    wait_for(lambda: box.ctl("health", "bob")["warm"] == 0, "the next one to end")


def test_only_a_shim_of_ones_own_daemon_is_put_into_a_scope(box: Box, kernel: int) -> None:
    foreign = box.main_pid("kconnd.service")
    for pid, user in ((foreign, "eve"), (kernel, "eve"), (kernel, "ada"), (999_999, "eve")):
        body = json.dumps({"name": "mine", "generation": 1, "pid": pid, "limits": {}})
        front = f"curl -s --unix-socket {FRONT_SOCKET} http://x/v1/scopes"
        reply = box.as_daemon(f"{front} -d {shlex.quote(body)}", box.uid(user))
        assert f"process {pid} does not belong to the daemon of" in reply.json()["error"]["message"]
    assert box.run("systemctl list-units --plain --no-legend 'kconnd-kernel-*-mine-1*'").out == ""


def test_a_control_group_that_is_called_as_a_daemons_unit_is_not_one(box: Box) -> None:
    """A user's own manager gives whatever names that user likes, below a unit of the system's."""
    uid = box.uid("eve")
    tree = "/sys/fs/cgroup$(test -d /sys/fs/cgroup/systemd && echo /systemd)"
    theirs = f"{tree}/user.slice/theirs.service"
    group = f"{theirs}/kconnd@{uid}.service"
    sleeper = f"setpriv --reuid {uid} --clear-groups sleep 999 >/dev/null 2>&1"
    pid = int(box.run(f"mkdir -p {group}; {sleeper} & echo $! | tee {group}/cgroup.procs").out)
    body = json.dumps({"name": "mine", "generation": 1, "pid": pid, "limits": {}})
    front = f"curl -s --unix-socket {FRONT_SOCKET} http://x/v1/scopes"
    reply = box.as_daemon(f"{front} -d {shlex.quote(body)}", uid)
    assert f"process {pid} does not belong to the daemon of" in reply.json()["error"]["message"]
    box.run(f"kill {pid}")
    wait_for(lambda: box.try_(f"rmdir {group} {theirs}").code == 0, "it to be empty")


def test_units_are_made_for_a_users_own_daemon_alone(box: Box, kernel: int) -> None:
    """Not for another process of the user, nor for root because of what root happens to run."""
    ask = f"curl -s --unix-socket {FRONT_SOCKET} http://x/v1"
    ada = box.uid("ada")
    for path in ("units", "scopes", "boot", "sharing"):
        for user, uid in (("ada", ada), ("root", 0)):
            said = box.run(f"{ask}/{path} -d {{}}", user).json()["error"]
            assert said["code"] == "refused"
            assert f"does not belong to the daemon of uid {uid}" in said["message"]
    # What the daemon's group has in it counts as the daemon, and as that of its own uid alone.
    assert box.as_daemon(f"{ask}/units -d {{}}", ada).json()["error"]["message"] == "name: not text"
    box.write("/opt/borrowed.py", BORROWED)
    for uid in (0, box.uid("bob")):
        borrowed = f"python3 /opt/borrowed.py {uid} {ask}/units -d {{}}"
        into = f"echo $$ > {box.cgroups()}{daemon_cgroup(ada)}/cgroup.procs"
        said = box.run(f"{into} && exec {borrowed}").json()["error"]["message"]
        assert f"does not belong to the daemon of uid {uid}" in said
    assert box.pid("python3", "ada") == kernel


BORROWED = """
import os, sys
os.setresuid(*[int(sys.argv[1])] * 3)
os.execvp(sys.argv[2], sys.argv[2:])
"""
PASSED_ON = """
import os, socket, sys
here, there = os.pipe()
connection = socket.socket(socket.AF_UNIX)
connection.connect(sys.argv[1])
if sys.argv[2] == "ends" and os.fork():
    os._exit(0)
parent = os.getppid()
while sys.argv[2] == "ends" and os.getppid() == parent != 1:
    pass
connection.sendall(b"POST /v1/units HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: 2\\r\\n\\r\\n{}")
print(connection.recv(65536).decode().partition("\\r\\n\\r\\n")[2])
"""


def test_who_connected_and_has_ended_is_nobodys_daemon(box: Box, kernel: int) -> None:
    """Its number could be another process's, so what is read by it is not of who connected."""
    box.write("/opt/passed_on.py", PASSED_ON)
    said = {
        what: box.as_daemon(f"python3 /opt/passed_on.py {FRONT_SOCKET} {what}", box.uid("ada"))
        for what in ("stays", "ends")
    }
    assert said["stays"].json()["error"]["message"] == "name: not text"
    assert "does not belong to the daemon of" in said["ends"].json()["error"]["message"]
    assert box.pid("python3", "ada") == kernel


def test_every_descendant_is_gone_after_a_stop(box: Box, kernel: int) -> None:
    words = '["sleep", "999"], start_new_session=True'
    code = f"import subprocess; print(subprocess.Popen({words}).pid)"
    pid = int(box.run(f"kconnd-ctl run python3 -c {shlex.quote(code)}", "ada").out)
    box.run(f"kill -0 {pid} {kernel}")
    box.run("kconnd-ctl stop python3", "ada")
    assert box.try_(f"kill -0 {pid}").code != 0
    units = f"systemctl list-units --plain --no-legend 'kconnd-kernel-{box.uid('ada')}-*'"
    wait_for(lambda: box.run(units).out == "", "the unit to be gone")


@pytest.mark.parametrize("launcher", ["systemd", "fork"])
def test_a_kernel_outlives_its_shim_and_what_it_left_goes_with_it(
    box: Box, profile: WriteProfile, launcher: str
) -> None:
    profile("alone", f"kernel: python3\nlauncher: {launcher}\n", "bob")
    deaf = '["sh", "-c", "trap : TERM; sleep 998; sleep 998"]'
    words = f"{deaf}, start_new_session=True"
    code = f"import subprocess; print(subprocess.Popen({words}).pid)"
    left = int(box.run(f"kconnd-ctl run alone -c {shlex.quote(code)}", "bob").out)
    found = box.ctl("info alone", "bob")
    assert (found["launcher"], found["launcher_note"]) == (launcher, None)
    kernel = found["pid"]
    box.run(f"kill -9 $(ps -o ppid= -p {kernel})")
    # systemd closes the unit's session and leaves the rest alone; a later daemon has it back.
    box.run(f"systemctl restart kconnd@{box.uid('bob')}.service")
    assert box.run("kconnd-ctl run alone -c 'print(6 * 7)'", "bob").out == "42\n"
    assert box.pid("alone", "bob") == kernel
    assert f"/kconnd-kernel-{box.uid('bob')}-alone-" in box.run(f"cat /proc/{kernel}/cgroup").out
    box.run(f"kill -0 {left}")
    box.run("kconnd-ctl stop alone", "bob")
    assert box.ctl("info alone", "bob")["state"] == "stopped"
    assert box.try_(f"kill -0 {left} || kill -0 {kernel}").code != 0
    units = f"systemctl list-units --plain --no-legend 'kconnd-kernel-{box.uid('bob')}-alone-*'"
    wait_for(lambda: box.run(units).out == "", "the unit to be gone")
    # The same where no daemon was there to see the end.
    left = int(box.run(f"kconnd-ctl run alone -c {shlex.quote(code)}", "bob").out)
    kernel = box.pid("alone", "bob")
    box.run(f"systemctl stop kconnd@{box.uid('bob')}.service")
    box.run(f"kill -9 $(ps -o ppid= -p {kernel}) {kernel}")
    box.run(f"kill -0 {left}")
    box.try_("kconnd-ctl stop alone", "bob")
    wait_for(lambda: box.try_(f"kill -0 {left}").code != 0, "what it left to be ended")
    wait_for(lambda: box.run(units).out == "", "the unit to be gone")


OLD = """
import asyncio, sys
from kconnd.front.unit_properties import properties
from kconnd.system.systemd.unit_control import Systemd
argv = ["/bin/sh", "-c", "setsid sleep 997 & exec sleep 996", "old", "plan"]
rows = properties(int(sys.argv[1]), argv, {"tasks": 40}, 249, pam=True)
asyncio.run(Systemd().start_transient("kconnd-kernel-old.service", rows))
"""


def test_a_kernel_in_a_unit_of_an_older_systemd_outlives_its_shim(box: Box) -> None:
    box.run(f"{sys.executable} -c {shlex.quote(OLD)} {box.uid('eve')}")
    box.run(f"kill -9 {box.main_pid('kconnd-kernel-old')}")
    wait_for(lambda: box.main_pid("kconnd-kernel-old") == 0, "systemd to know")
    kernel = int(box.run("pgrep -u eve -f 'sleep 997'").out)
    assert "/kconnd-kernel-old.service" in box.run(f"cat /proc/{kernel}/cgroup").out
    box.run(f"kill {kernel}")


@pytest.fixture
def settings(box: Box) -> Iterator[Callable[[str], None]]:
    """Give what writes the machine's settings, and waits until they have been left alone."""
    path = "/etc/kconnd/kconnd.yaml"

    def write(text: str) -> None:
        box.write(path, text)
        delay_ms = int(SETTLE_DELAY_S * 1000)
        aged = f"test $(( $(date +%s%3N) - $(date -r {path} +%s%3N) )) -gt {delay_ms}"
        wait_for(lambda: box.try_(aged).code == 0, "the settings to count")

    yield write
    write("connections: 128\n")
    # Each daemon reads the settings at a request. One that read none since the test would go on
    # with those of the test for a while after the file is removed.
    request = "curl -s --max-time 10 --unix-socket $socket http://x/v1/health"
    box.run(f"for socket in /run/kconnd/s/*; do {request}; done; rm {path}")
    box.run("systemctl reload kconnd.service")


def test_quotas(box: Box, kernel: int, settings: Callable[[str], None]) -> None:
    settings("quotas: {kernels: 2, memory: 1G}\n")
    box.run("kconnd-ctl start python3@second", "ada")
    done = box.try_("kconnd-ctl start python3@third", "ada")
    assert done.code == 1
    assert "has 2 kernels, and may have 2" in done.err
    slice_ = f"kconnd-{box.uid('ada')}.slice"
    limit = f"systemctl show -P MemoryMax {slice_}"
    assert box.run(limit).out == f"{1 << 30}\n"
    box.run("kconnd-ctl stop python3@second", "ada")
    # Nor do those get more who start many at once, or by a launcher that nobody counts.
    starts = " & ".join(f"kconnd-ctl start python3@at-once{number}" for number in range(5))
    box.try_(f"{starts} & wait", "ada")
    units = f"systemctl list-units --plain --no-legend 'kconnd-kernel-{box.uid('ada')}-*'"
    assert len(box.run(units).out.splitlines()) == 2
    box.run("kconnd-ctl stop 'python3@at-once*' --yes", "ada")
    box.run("mkdir -p ~/.config/kconnd/configs", "ada")
    mine = "kernel: python3\\nlauncher: local\\n"
    box.run(f"printf '{mine}' > ~/.config/kconnd/configs/uncounted.yaml", "ada")
    box.run("kconnd-ctl reload", "ada")
    done = box.try_("kconnd-ctl start uncounted", "ada")
    assert (done.code, "counts each user's kernels" in done.err) == (1, True)
    box.run("rm ~/.config/kconnd/configs/uncounted.yaml; kconnd-ctl reload", "ada")
    # What is taken away is lifted, and what an administrator has set before is left.
    settings("quotas: {memory: 2G}\n")
    wait_for(lambda: box.run(limit).out == f"{2 << 30}\n", "the new limit")
    settings("quotas: {kernels: 9}\n")
    wait_for(lambda: box.run(limit).out == "infinity\n", "no limit")
    box.run(f"systemctl set-property --runtime {slice_} MemoryMax=3G")
    box.run("kconnd-ctl start python3@second && kconnd-ctl stop python3@second", "ada")
    assert box.run(limit).out == f"{3 << 30}\n"
    box.run(f"systemctl set-property --runtime {slice_} MemoryMax=infinity")
    assert box.pid("python3", "ada") == kernel


def test_who_may_use_the_service(
    box: Box, kernel: int, profile: WriteProfile, settings: Callable[[str], None]
) -> None:
    profile("seen", "kernel: python3\nuser: ada\naccess: {see: [eve]}\n", "ada", "eve")
    box.run("kconnd-ctl info seen && kconnd-ctl start python3", "eve")
    box.run("groupadd -f staff; usermod -a -G staff ada")
    settings("users: ['@staff']\n")
    # Neither by the front door nor past it, to a daemon of one's own or of somebody who shares.
    for command in (
        "kconnd-ctl info ada/python3",
        "kconnd-ctl list",
        "kconnd-ctl start python3@more",
        f"kconnd-ctl --socket /run/kconnd/s/{box.uid('eve')} list",
        f"kconnd-ctl --socket /run/kconnd/s/{box.uid('eve')} stop python3 --yes",
        f"kconnd-ctl --socket /run/kconnd/s/{box.uid('ada')} info seen",
    ):
        done = box.try_(command, "eve")
        assert (done.code, "may not use kconnd on this machine" in done.err) == (5, True), command
    assert box.pid("python3", "ada") == kernel
    box.run("kconnd-ctl start python3@staff && kconnd-ctl stop python3@staff", "ada")
    # Settings with a fault leave those before them, and check tells of it.
    settings("user: []\n")
    assert "did you mean 'users'?" in box.try_("kconnd-ctl check", "ada").out
    assert box.try_("kconnd-ctl info ada/python3", "eve").code == 5
    settings("users: []\n")
    box.run("kconnd-ctl stop python3", "eve")


# --- logging


def test_the_journal_has_fields(box: Box, kernel: int) -> None:
    fields = "KCONND_KERNEL=python3 KCONND_OWNER=ada KCONND_EVENT=running"
    line = box.run(f"journalctl -o cat --no-pager -n 1 {fields}").out
    assert "it answered kernel_info_request" in line
    box.try_("kconnd-ctl stop ada/python3 --yes", "eve")
    asked = f"KCONND_UID={box.uid('eve')} KCONND_VERB=stop KCONND_OUTCOME=refused"
    assert "requested stop python3: refused" in box.run(f"journalctl -o cat --no-pager {asked}").out
    assert box.pid("python3", "ada") == kernel


OFTEN = """
import socket, sys
for _ in range(int(sys.argv[2])):
    with socket.socket(socket.AF_UNIX) as one:
        one.connect(sys.argv[1])
        one.sendall(b"POST /v1/kernels/python3/interrupt HTTP/1.1\\r\\nHost: x\\r\\n"
                    b"Connection: close\\r\\n\\r\\n")
        while one.recv(65536):
            pass
"""


def test_whoever_asks_often_hides_nothing_from_the_audit(box: Box, kernel: int) -> None:
    """With a journal that drops lines sooner than by default, so that a few hundred do."""
    folder = "/etc/systemd/journald.conf.d"
    tight = "[Journal]\nRateLimitIntervalSec=30s\nRateLimitBurst=20\n"
    box.write(f"{folder}/tight.conf", tight)
    box.write("/opt/often.py", OFTEN)
    uid = box.uid("ada")
    lines = f"journalctl --no-pager -q -o cat KCONND_UID={uid} KCONND_VERB=interrupt | wc -l"
    try:
        box.run("systemctl restart systemd-journald")
        before = int(box.run(lines).out)
        box.run(f"python3 /opt/often.py /run/kconnd/s/{uid} 400", "ada")
        wait_for(lambda: int(box.run(lines).out) == before + 400, "all of them")
    finally:
        box.run(f"rm {folder}/tight.conf; systemctl restart systemd-journald")
    assert remembers(box, kernel)


def test_the_services_have_descriptors_for_many_users(box: Box, kernel: int) -> None:
    for unit in ("kconnd.service", f"kconnd@{box.uid('ada')}.service"):
        limits = box.run(f"grep 'open files' /proc/{box.main_pid(unit)}/limits").out.split()
        assert int(limits[3]) >= 8 * 1024, unit  # or what the machine has
    # An owner's daemon raises its own, and leaves to its kernels what a unit has.
    assert box.run("systemctl show -P LimitNOFILESoft kconnd.service").out == "65536\n"
    assert box.run(f"awk '/open files/ {{print $4}}' /proc/{kernel}/limits").out == "1024\n"


# --- nobody in another's kernel


@pytest.mark.parametrize(
    "command",
    [
        *("info ada/python3", "connection ada/python3", "logs ada/python3", "why ada/python3"),
        *("wait ada/python3", "start ada/python3", "start ada/python3@new", "run ada/python3 -c 1"),
        *("stop ada/python3 --yes", "restart ada/python3", "interrupt ada/python3"),
        *("signal ada/python3 -s KILL", "info ada/nothing-of-this-name"),
        *("list {ada}", "events {ada}", "events python3 {ada}", "profiles {ada}", "health {ada}"),
        *("reload {ada}", "stop --all --yes {ada}", "start python3 {ada}"),
    ],
)
def test_another_user_is_refused(box: Box, kernel: int, command: str) -> None:
    words = command.format(ada=f"--socket /run/kconnd/s/{box.uid('ada')}")
    done = box.try_(f"kconnd-ctl {words}", "eve")
    assert (done.code, done.out) == (5, ""), done
    assert "may not" in done.err
    assert remembers(box, kernel)


def test_the_doctor_finds_nothing_wrong_with_a_server(box: Box, kernel: int) -> None:
    done = box.try_("kconnd-ctl doctor", "ada")
    assert "a logout terminates" not in done.out
    assert f"/run/kconnd/s/{box.uid('ada')}" in done.out
    assert remembers(box, kernel)


def test_another_user_who_looks_everywhere_finds_no_key(box: Box, kernel: int) -> None:
    uid = box.uid("ada")
    key = box.ctl("connection python3", "ada")["key"]
    folder = f"/run/kconnd/u/{uid}"
    for command in (
        f"cat {folder}/kernel-python3.json",
        f"ls {folder}",
        f"cat /proc/{kernel}/environ",
        f"ls -R /var/lib/kconnd/u/{uid}",
        f"python3 -c 'import socket; socket.socket(1).connect(\"{folder}/ipc/python3-2\")'",
    ):
        done = box.try_(command, "eve")
        assert done.code != 0, command
        assert "denied" in done.err
    seen = box.try_(
        f"systemctl show kconnd@{uid} kconnd.service 'kconnd-kernel-{uid}-*'; ps auxww;"
        " journalctl --no-pager; cat /run/systemd/transient/* /etc/systemd/system/kconnd*",
        "eve",
    ).out
    assert key not in seen
    assert key not in box.run("journalctl --no-pager; ps auxwwe | grep -v ^ada").out


def test_root_and_administrators_manage_everybodys(box: Box, kernel: int) -> None:
    assert box.try_("kconnd-ctl info ada/python3", "max").code == 5
    box.run("usermod -a -G kconnd-admin max")
    for user in ("max", "root"):
        assert box.ctl("info ada/python3", user)["pid"] == kernel
        assert box.ctl("connection ada/python3", user)["key"]
    assert box.run("kconnd-ctl run ada/python3 -c 'print(kept)'").out == "42\n"
    done = box.try_("kconnd-ctl run ada/python3 -c 1", "max")
    assert (done.code, "only ada and root can enter" in done.err) == (5, True)
    found = box.ctl("list --all-users", "max")["kernels"]
    assert [("ada", kernel)] == [
        (one["owner"], one["pid"]) for one in found if one["pid"] == kernel
    ]
    refused = box.try_("kconnd-ctl list --all-users", "eve")
    assert (refused.code, "kconnd-admin" in refused.err) == (5, True)
    box.run("gpasswd -d max kconnd-admin")


def test_a_uid_without_an_account_leaves_nothing_in_the_manager(box: Box) -> None:
    as_nobody = "setpriv --reuid 300000 --regid 300000 --clear-groups"
    for path, body in (("owners/self/open", "{}"), ("boot", '{"wanted": true}')):
        ask = f"curl -s --unix-socket {FRONT_SOCKET} http://x/v1/{path} -d {shlex.quote(body)}"
        assert box.run(f"{as_nobody} {ask}").json()["error"]["code"] == "refused"
    assert box.run("systemctl list-units --all --plain --no-legend 'kconnd*300000*'").out == ""
    assert box.try_("test -e /var/lib/kconnd/boot/300000").code == 1


def test_what_is_no_owner(box: Box) -> None:
    done = box.try_("kconnd-ctl info nobody-of-this-name/python3", "eve")
    assert (done.code, "there is no user" in done.err) == (4, True)
    done = box.try_("kconnd-ctl info ../python3", "eve")
    assert done.code in {2, 4}
    reply = box.run(
        f"curl -s --unix-socket {FRONT_SOCKET} -X POST http://x/v1/owners/%2e%2e%2fa@b/open", "eve"
    )
    assert reply.json()["error"]["code"] in {"no-such-kernel", "usage"}


CROWD = """
import resource, socket, sys, time
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
crowd = []
for number in range(3000):
    one = socket.socket(socket.AF_UNIX)
    try:
        one.settimeout(1)
        one.connect(sys.argv[1])
        one.sendall(b"GET /v1/kernels HTTP/1.1\\r\\nHost: x\\r\\nX-Slow: ")
    except OSError:
        pass
    crowd.append(one)
print("all there", flush=True)
time.sleep(1000)
"""


@pytest.mark.parametrize("where", ["/run/kconnd/s/{uid}", FRONT_SOCKET])
def test_a_crowd_of_half_open_connections_shuts_nobody_out(
    box: Box, kernel: int, where: str
) -> None:
    path, uid = where.format(uid=box.uid("ada")), box.uid("eve")
    unit = "kconnd.service" if path == FRONT_SOCKET else f"kconnd@{box.uid('ada')}.service"
    box.write("/opt/crowd.py", CROWD)
    since = box.run("date +'%F %T'").out.strip()
    run = f"systemd-run -q --unit=crowd -p User=eve python3 /opt/crowd.py {path}"
    box.run(run)
    try:
        there = "journalctl --no-pager -o cat -u crowd"
        wait_for(lambda: "all there" in box.run(there).out, "the crowd", limit=60)
        before = box.main_pid(unit)
        assert remembers(box, kernel)
        assert box.try_("kconnd-ctl list", "bob").code == 0
        files = int(box.run(f"ls /proc/{before}/fd | wc -l").out)
        assert files < 250, "a bounded number is let in"
        said = box.run(f"journalctl --no-pager -o cat -u {unit} --since '{since}'").out
        assert said.count(f"uid {uid} has ") == 1, "one line a minute for each offender"
        assert box.main_pid(unit) == before
    finally:
        box.run("systemctl stop crowd; systemctl reset-failed crowd 2>/dev/null; true")


LIAR = """
import socket, sys
listener = socket.socket(fileno=3)
body = {body}
while True:
    connection, _ = listener.accept()
    connection.recv(65536)
    head = b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(body)
    try:
        connection.sendall(head + body)
    except OSError:
        pass
    connection.close()
"""


@pytest.mark.parametrize(
    "body",
    [
        'b"{}"',
        'b"[" * 100000',
        'b"x" * (5 << 20)',
        'b\'{"kernels": [{"name": "../../etc", "owner": "root", "pid": 1}]}\'',
        'b\'{"kernels": [7, null, {"name": {}}]}\'',
    ],
)
def test_an_owners_daemon_that_lies_harms_nobody(box: Box, kernel: int, body: str) -> None:
    uid = box.uid("bob")
    folder = f"/etc/systemd/system/kconnd@{uid}.service.d"
    box.write("/opt/liar.py", LIAR.format(body=body))
    lines = [
        "Type=simple",
        "WatchdogSec=0",
        "ExecStart=",
        "ExecStart=/usr/bin/python3 /opt/liar.py",
    ]
    box.write(f"{folder}/liar.conf", "\n".join(["[Service]", *lines, ""]))
    front = box.main_pid("kconnd.service")
    try:
        box.run(f"systemctl daemon-reload; systemctl stop kconnd@{uid}.service")
        box.run(f"systemctl start kconnd@{uid}.socket kconnd@{uid}.service")
        found = box.ctl("list --all-users", "root")["kernels"]
        assert kernel in [one["pid"] for one in found]
        assert {one["owner"] for one in found} <= {*USERS, "root"}
        assert not [one for one in found if ".." in one["name"]]
        assert not [one for one in found if one["pid"] == 1]
        assert box.run("kconnd-ctl list --all-users").code == 0
        assert remembers(box, kernel)
        assert box.main_pid("kconnd.service") == front
    finally:
        box.run(f"rm -r {folder}; systemctl daemon-reload; systemctl stop kconnd@{uid}.service")


def test_ten_thousand_hostile_inputs_do_the_front_door_no_harm(box: Box, kernel: int) -> None:
    front = box.main_pid("kconnd.service")
    root = __file__.rpartition("/tests/")[0]
    attack = f"cd {root} && {sys.executable} -m tests.server.fuzz {FRONT_SOCKET} 10000"
    done = box.as_daemon(attack, 0)
    found = done.json()
    assert found["faults"] == []
    assert found["pid"] == box.main_pid("kconnd.service") == front
    assert found["after"][0] <= found["before"][0] + 10, "descriptors"
    assert found["after"][1] < found["before"][1] + (16 << 20), "memory"
    assert "Traceback" not in box.run("journalctl --no-pager -u kconnd.service").out
    assert remembers(box, kernel)


def test_what_the_services_take_of_memory(box: Box, kernel: int) -> None:
    """A bound to notice when something heavy creeps in; `systemctl show` gives the figure."""

    def private(unit: str) -> int:
        rows = box.run(f"grep ^Private_ /proc/{box.main_pid(unit)}/smaps_rollup").out
        return sum(int(row.split()[1]) for row in rows.splitlines())

    front, owner = private("kconnd.service"), private(f"kconnd@{box.uid('ada')}.service")
    Path(os.environ.get("KCONND_FIGURES", os.devnull)).write_text(
        f"front door {front} kB, an owner's daemon with one kernel {owner} kB", encoding="utf-8"
    )
    assert 5_000 < front < 40_000, f"{front} kB"
    assert 5_000 < owner < 60_000, f"{owner} kB"
    assert box.pid("python3", "ada") == kernel


# --- profiles of the whole machine


def test_a_profile_of_the_machine_is_each_users_own(box: Box) -> None:
    box.write(f"{CONFIGS}/mine.yaml", "kernel: python3\nenv: {WHO: the-machine}\n")
    for user in ("ada", "bob"):
        box.try_("kconnd-ctl reload", user)
        say = 'import os; print(os.getuid(), os.environ["WHO"], os.environ["HOME"])'
        out = box.run(f"kconnd-ctl run mine -c '{say}'", user).out
        assert out.split() == [str(box.uid(user)), "the-machine", f"/home/{user}"]
    assert box.pid("mine", "ada") != box.pid("mine", "bob")
    box.run("kconnd-ctl stop mine", "bob")
    # A user's own profile of that name goes before it, for that user.
    box.run("mkdir -p ~/.config/kconnd/configs", "ada")
    own = "kernel: python3\\nenv: {WHO: ada}\\n"
    box.run(f"printf '{own}' > ~/.config/kconnd/configs/mine.yaml", "ada")
    assert f"hides {CONFIGS}/mine.yaml" in box.run("kconnd-ctl check", "ada").out
    box.run("kconnd-ctl reload; kconnd-ctl restart mine", "ada")
    out = box.run("kconnd-ctl run mine -c 'import os; print(os.environ[\"WHO\"])'", "ada").out
    assert out == "ada\n"
    box.run("kconnd-ctl stop mine; rm ~/.config/kconnd/configs/mine.yaml", "ada")
    box.run(f"rm {CONFIGS}/mine.yaml")


def test_a_profile_of_the_machine_takes_effect_as_it_is_dropped_in(box: Box, kernel: int) -> None:
    """For daemons that run and for the front door, without a command to any of them."""
    file = f"{CONFIGS}/dropped.yaml"

    def known(user: str) -> str:
        rows = box.ctl("profiles", user)["profiles"]
        return next((row["status"] for row in rows if row["name"] == "dropped"), "")

    box.run("kconnd-ctl start python3", "bob")
    box.write(file, "kernel: python3\nlimits: {tasks: 55}\n")
    for user in ("ada", "bob"):
        wait_for(lambda: known(user), f"{user}'s daemon to know it")  # noqa: B023  # at once
    box.run("kconnd-ctl start dropped", "bob")
    unit = f"kconnd-kernel-{box.uid('bob')}-dropped-1.service"
    assert box.run(f"systemctl show -P TasksMax {unit}").out == "57\n"
    pid = box.pid("dropped", "bob")
    box.write(file, "kernel: python3\nlimits: {tasks: 66}\n")
    wait_for(lambda: "changed" in known("bob"), "the change to be told")
    box.run("kconnd-ctl restart dropped", "bob")
    limit = f"systemctl show -P TasksMax {unit.replace('-1.', '-2.')}"
    assert (box.run(limit).out, box.pid("dropped", "bob") == pid) == ("68\n", False)
    box.write(file, "kernel: python3\nlimits: {tasks: 77}\n")
    box.run("kconnd-ctl reload && kconnd-ctl restart dropped", "bob")
    limit = f"systemctl show -P TasksMax {unit.replace('-1.', '-3.')}"
    assert box.run(limit).out == "79\n", "the front door waits for what the daemon was told of"
    pid = box.pid("dropped", "bob")
    box.run(f"rm {file}")
    wait_for(lambda: not known("ada"), "it to be gone")
    wait_for(lambda: box.ctl("info dropped", "bob")["profile_status"] == "orphaned", "an orphan")
    assert box.pid("dropped", "bob") == pid, "what lives is left"
    box.run("kconnd-ctl stop dropped python3", "bob")
    assert remembers(box, kernel)


def test_a_shared_kernel_is_found_as_soon_as_its_profile_is_written(
    box: Box, kernel: int, profile: WriteProfile
) -> None:
    """By daemons that are running, of its owner and of another user, without a reload."""
    box.run("kconnd-ctl list", "eve")
    for name in ("first", "second", "third"):
        profile(name, "# nothing yet\n", "ada", "eve")
        text = "kernel: python3\\nuser: ada\\naccess: {see: [eve]}\\n"
        box.run(f"printf '{text}' > {CONFIGS}/{name}.yaml; su - eve -c 'kconnd-ctl info {name}'")
    assert remembers(box, kernel)


HEAR = """
import sys, zmq
socket = zmq.Context().socket(zmq.SUB)
socket.subscribe(b"")
socket.connect("tcp://127.0.0.1:" + sys.argv[1])
print("heard", socket.recv() if socket.poll(4000) else "nothing")
"""
SHARED = """
kernel: python3
user: ada
access: {see: [eve], connect: [bob], manage: ["@ops"]}
"""


def test_list_shows_a_kernel_that_an_owners_own_profile_shares(box: Box) -> None:
    own = "kernel: python3\\naccess: {see: [bob]}\\n"
    box.run("mkdir -p ~/.config/kconnd/configs", "ada")
    box.run(f"printf '{own}' > ~/.config/kconnd/configs/own.yaml; kconnd-ctl reload", "ada")
    box.run("kconnd-ctl start own python3", "ada")

    def listed(user: str) -> dict[str, str]:
        return {row["name"]: row["state"] for row in box.ctl("list", user)["shared"]}

    expected = {"ada/own": "running"}
    wait_for(lambda: listed("bob") == expected, "the daemon to report that it shares a kernel")
    assert box.run("stat -c '%U %a' /run/kconnd/sharing").out == "root 700\n"
    assert listed("eve") == listed("ada") == listed("root") == {}
    # The front door remembers it over a restart, and forgets it with the profile.
    box.run("systemctl restart kconnd.service")
    wait_for(lambda: listed("bob") == expected, "the kernel of the sharing owner")
    box.run("kconnd-ctl stop own python3 --yes; rm ~/.config/kconnd/configs/own.yaml", "ada")
    box.run("kconnd-ctl reload", "ada")
    mark = f"test -e /run/kconnd/sharing/{box.uid('ada')}"
    wait_for(lambda: box.try_(mark).code == 1, "the daemon to report that it shares nothing")
    assert listed("bob") == {}


def test_a_shared_kernel_is_what_its_profile_says_to_each(box: Box, profile: WriteProfile) -> None:
    box.run("groupadd -f ops; usermod -a -G ops max")
    profile("shared", SHARED, *USERS)
    # bob, who may connect, sees it in his list and starts it, since its profile says on-demand.
    rows = {row["name"]: row["state"] for row in box.ctl("list", "bob")["shared"]}
    assert rows == {"ada/shared": "stopped"}
    box.run("kconnd-ctl start ada/shared", "bob")
    assert box.ctl("list", "bob")["shared"][0]["state"] == "running"
    refused = box.try_("kconnd-ctl stop ada/shared --yes", "bob")
    assert (refused.code, "ask ada or the group ops, who may manage it" in refused.err) == (5, True)
    box.run("kconnd-ctl stop shared", "max")
    box.run("kconnd-ctl kernelspec install ada/shared --user", "bob")
    box.run("kconnd-ctl start shared", "max")
    pid = box.pid("shared", "ada")
    assert box.run(f"stat -c %U /proc/{pid}").out == "ada\n"
    assert box.ctl("info shared", "ada")["connection"]["encrypted"]
    # bob may run code in it, and keeps what he needs for that in a file of his own, which
    # nobody can keep him from by taking its name first.
    box.run(f"rm -rf /tmp/kconnd-{box.uid('bob')}")
    box.run(f"mkdir -m 777 /tmp/kconnd-{box.uid('bob')}", "eve")
    box.run("kconnd-ctl run shared -c 'x = 1'", "bob")
    assert box.run("kconnd-ctl run ada/shared -c 'print(x)'", "bob").out == "1\n"
    # Her kernel's words steer her terminal, and not his.
    title = 'print("\\x1b]0;title\\x07said")'
    for name in ("shared", "ada/shared"):
        assert box.run(f"kconnd-ctl run {name} -c {shlex.quote(title)}", "bob").out == "said\n"
    words = box.run(f"kconnd-ctl run shared -c {shlex.quote(title)}", "ada").out
    assert words == "\x1b]0;title\x07said\n"
    copy = f"/run/kconnd/u/{box.uid('bob')}/shared/kernel-ada-shared.json"
    assert box.run(f"stat -c '%U %a' {copy}").out == "bob 600\n"
    assert box.try_("kconnd-ctl stop shared --yes", "bob").code == 5
    # eve may see that it is there, and no more.
    seen = box.ctl("info shared", "eve")
    assert (seen["state"], seen["log_file"]) == ("running", "")
    for verb in ("connection", "logs"):
        assert box.try_(f"kconnd-ctl {verb} shared", "eve").code == 5
    assert box.try_("kconnd-ctl run shared -c 1", "eve").code == 5
    # On the wire she hears nothing, though the port is open to all of the machine.
    port = seen["connection"]["iopub_port"]
    box.write("/opt/hear.py", HEAR)
    hearing = f"/opt/kconnd/bin/python /opt/hear.py {port}"
    talking = "kconnd-ctl run shared -c 'for n in range(50): print(n, flush=True)'"
    done = box.run(
        f"su - eve -c '{hearing}' & sleep 0.5; su - bob -c \"{talking}\" > /dev/null; wait"
    )
    assert done.out == "heard nothing\n"
    box.run("kconnd-ctl restart shared", "max")
    # Who is taken off the list is told about, since a key may have been copied.
    box.write(f"{CONFIGS}/shared.yaml", SHARED.replace("[bob]", "[]"))
    box.run("kconnd-ctl reload", "ada")
    assert box.try_("kconnd-ctl run shared -c 1", "bob").code == 5
    events = box.run("kconnd-ctl events", "ada").out
    assert "bob may no longer connect" in events
    assert "restart shared --new-key" in events
    box.run("kconnd-ctl stop shared", "max")


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        ("chmod o+w {file}", "all users may write to the file"),
        ("chown eve {file}", "belongs to uid"),
        ("chgrp ops {file}; chmod g+w {file}", "may write to the file"),
    ],
)
def test_a_profile_that_others_could_have_written_is_refused(box: Box, harm: str, why: str) -> None:
    file = f"{CONFIGS}/bad.yaml"
    box.write(file, "kernel: python3\n")
    box.run("groupadd -f ops")
    box.run(harm.format(file=file))
    box.try_("kconnd-ctl reload", "ada")
    assert why in box.try_("kconnd-ctl check", "ada").out
    assert box.try_("kconnd-ctl start bad", "ada").code != 0
    box.run(f"rm {file}")


def test_a_kernel_of_root_is_not_shared(box: Box, profile: WriteProfile) -> None:
    text = "kernel: python3\nuser: root\naccess: {connect: [bob]}\n"
    profile("rooty", text, "root", "bob")
    assert "root" in box.try_("kconnd-ctl check", "ada").out
    assert box.try_("kconnd-ctl run rooty -c 1", "bob").code != 0
