"""Kernels survive an administrator's systemctl commands that do not address them.

The standard is systemd's own user@.service: a kernel, in a unit or in a scope, survives every
command that a lingering user's manager survives. Stopping a kernel's unit is an order to stop the
kernel.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.conftest import wait_for
from tests.server.box import Box

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]
FORKED = "/etc/kconnd/configs/forked.yaml"
KINDS = {"python3": "service", "forked": "scope"}
UPKEEP = (
    "systemctl start multi-user.target dbus.socket systemd-logind kconnd.socket "
    "systemd-journald.socket systemd-journald-dev-log.socket systemd-journald"
)
USUAL = (
    "systemctl isolate multi-user.target",
    "systemctl daemon-reexec",
    "systemctl restart systemd-journald systemd-logind dbus.service",
)
LIVED_THROUGH = (
    *USUAL,
    "systemctl daemon-reload",
    "systemctl isolate default.target",
    "systemctl isolate rescue.target",
    "systemctl restart systemd-journald",
    "systemctl stop systemd-journald systemd-journald.socket systemd-journald-dev-log.socket",
    "systemctl kill -s KILL systemd-journald",
    "systemctl restart systemd-logind",
    "systemctl stop systemd-logind",
    "systemctl kill systemd-logind",
    "systemctl stop dbus.service dbus.socket",
    "systemctl kill dbus.service",
    "systemctl stop multi-user.target",
    "systemctl stop basic.target",
    "systemctl stop sockets.target timers.target paths.target",
    "systemctl stop local-fs.target remote-fs.target network.target",
    "systemctl stop systemd-user-sessions.service",
    "systemctl stop system-kconnd.slice",
    "systemctl stop user.slice",
    "systemctl restart user.slice",
    "systemctl kill user.slice",
    "systemctl stop user-{uid}.slice user@{uid}.service",
    "loginctl terminate-user ada",
    "loginctl kill-user ada",
    "systemctl set-property kconnd.slice CPUWeight=50; systemctl revert kconnd.slice",
    "systemctl set-property kconnd-{uid}.slice MemoryMax=8G; systemctl revert kconnd-{uid}.slice",
    "systemctl reset-failed",
    "systemctl mask --now cron.service; systemctl unmask cron.service",
    "systemctl preset-all --preset-mode=enable-only",
    "systemctl freeze kconnd.slice; systemctl thaw kconnd.slice",
    "systemctl log-level debug; systemctl log-level info",
    "systemd-tmpfiles --create --clean",
    "systemctl stop kconnd@{uid}.service kconnd@{uid}.socket",
    "systemctl disable --now kconnd.socket; systemctl enable --now kconnd.socket",
)


@dataclass(frozen=True)
class Kernels:
    """Two kernels of ada's that remember something."""

    box: Box

    def start(self) -> None:
        self.box.run("kconnd-ctl start python3 forked", "ada")
        for name in KINDS:
            self.box.run(f"kconnd-ctl run {name} -c 'kept = 6 * 7'", "ada")

    def pids(self) -> dict[str, int | None]:
        found = self.box.ctl("list", "ada")["kernels"]
        return {one["name"]: one["pid"] for one in found if one["name"] in KINDS}

    def remember(self) -> bool:
        said = [self.box.try_(f"kconnd-ctl run {name} -c 'print(kept)'", "ada") for name in KINDS]
        return [one.out for one in said] == ["42\n", "42\n"]

    def unit(self, name: str) -> str:
        generation = self.box.ctl(f"info {name}", "ada")["generation"]
        return f"kconnd-kernel-{self.box.uid('ada')}-{name}-{generation}.{KINDS[name]}"


@pytest.fixture(scope="module", name="prepared")
def _prepared(box: Box) -> Iterator[Kernels]:
    box.write(FORKED, "kernel: python3\nlauncher: fork\n")
    box.run("systemctl reload kconnd.service")
    box.try_("kconnd-ctl reload", "ada")
    yield Kernels(box)
    box.run(f"{UPKEEP}; kconnd-ctl list", "ada")
    box.run("kconnd-ctl stop python3 forked --now", "ada")
    box.run(f"rm {FORKED}; systemctl reload kconnd.service")
    box.try_("kconnd-ctl reload", "ada")


@pytest.fixture
def kernels(prepared: Kernels) -> Kernels:
    prepared.start()
    return prepared


@pytest.mark.parametrize("what", USUAL)
def test_kernels_live_through_what_is_not_about_them(box: Box, kernels: Kernels, what: str) -> None:
    before = kernels.pids()
    box.run(what)
    assert kernels.pids() == before
    assert kernels.remember()


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_kernels_live_through_whatever_a_users_manager_lives_through(
    box: Box, kernels: Kernels
) -> None:
    """Each line of a long table; what ends kernels and the manager alike is listed, too."""
    uid = box.uid("ada")
    box.run("loginctl enable-linger bob")
    lost: list[str] = []
    for line in LIVED_THROUGH:
        box.run(f"systemctl start user@{box.uid('bob')}.service")
        before, manager = kernels.pids(), box.main_pid(f"user@{box.uid('bob')}.service")
        box.try_(line.format(uid=uid))
        lives_on = box.main_pid(f"user@{box.uid('bob')}.service") == manager
        box.run(UPKEEP)
        if kernels.pids() != before or not kernels.remember():
            lost.append(f"{line} ({'user@ lives on' if lives_on else 'user@ ends, too'})")
            kernels.start()
    box.run("loginctl disable-linger bob")
    assert lost == []


def test_a_daemon_that_started_without_a_journal_logs_to_the_next_one(
    box: Box, kernels: Kernels
) -> None:
    uid = box.uid("ada")
    sockets = "systemd-journald.socket systemd-journald-dev-log.socket"
    box.run(f"systemctl stop systemd-journald {sockets}")
    try:
        box.run(f"systemctl stop kconnd@{uid}.service")
        assert kernels.remember()
    finally:
        box.run(f"systemctl start {sockets} systemd-journald")
    box.run("kconnd-ctl interrupt python3", "ada")
    asked = f"journalctl -q -o cat --no-pager KCONND_UID={uid} KCONND_VERB=interrupt"
    wait_for(lambda: "interrupt python3" in box.run(asked).out, "the line of the request")


@pytest.mark.parametrize("name", KINDS)
def test_a_stop_of_a_kernels_unit_is_an_order(box: Box, kernels: Kernels, name: str) -> None:
    unit = kernels.unit(name)
    box.run(f"systemctl stop {unit}")
    check_ordered(box, name, unit)
    other = next(one for one in KINDS if one != name)
    assert kernels.pids()[other], "nothing happened to the other one"
    assert box.run(f"kconnd-ctl start {name}", "ada").code == 0, "and it is no ban"


def check_ordered(box: Box, name: str, unit: str) -> None:
    wait_for(lambda: box.ctl(f"info {name}", "ada")["pid"] is None, "the end to be seen")
    found = box.ctl(f"info {name}", "ada")
    assert (found["state"], found["wanted"]) == ("stopped", "down")
    reason = f"stopped by the administrator with its unit {unit} (systemctl stop)"
    assert found["reason"] == f"{reason}; killed by SIGTERM"
    last = box.ctl(f"why {name}", "ada")["decisions"][-1]
    assert last["reason"] == found["reason"], "nothing followed"


def test_a_stop_of_an_owners_slice_is_one_for_all_kernels_in_it(box: Box, kernels: Kernels) -> None:
    """The daemon is in there, too, and ends first: the next one reads what the shims noted."""
    units = {name: kernels.unit(name) for name in KINDS}
    box.run(f"systemctl stop kconnd-{box.uid('ada')}.slice")
    for name, unit in units.items():
        check_ordered(box, name, unit)


def test_a_signal_of_somebody_else_is_no_order(box: Box, kernels: Kernels) -> None:
    """Root's kill of the same processes by the same signal, which no service manager sent."""
    before = kernels.pids()
    shim = int(box.run(f"ps -o ppid= -p {before['python3']}").out)
    box.run(f"kill -TERM {shim}; kill -TERM {before['python3']}")
    wait_for(lambda: kernels.pids()["python3"] not in {None, before["python3"]}, "a restart")
    reasons = [one["reason"] for one in box.ctl("why python3", "ada")["decisions"]]
    assert "killed by SIGTERM" in reasons


@pytest.mark.nightly
def test_a_kernel_that_ignores_sigterm_obeys_the_order_within_its_time(
    box: Box, kernels: Kernels
) -> None:
    code = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    for name in KINDS:
        box.run(f"kconnd-ctl run {name} -c '{code}'", "ada")
        unit = kernels.unit(name)
        box.run(f"systemctl stop {unit}")
        wait_for(lambda name=name: box.ctl(f"info {name}", "ada")["pid"] is None, "its end")  # type: ignore[misc]  # bound now
        found = box.ctl(f"info {name}", "ada")
        assert found["state"] == "stopped"
        assert found["reason"].endswith("(systemctl stop); killed by SIGKILL")


def test_kernels_end_after_their_daemon_when_the_machine_does(box: Box, kernels: Kernels) -> None:
    """Else the daemon would take the shutdown for an administrator's order."""
    for name in KINDS:
        shown = box.run(f"systemctl show -P Before -P IgnoreOnIsolate {kernels.unit(name)}").out
        assert f"kconnd@{box.uid('ada')}.service" in shown.split()
        assert "yes" in shown.split()


@pytest.mark.nightly
def test_needrestart_leaves_kernels_alone(box: Box, kernels: Kernels) -> None:
    """It restarts, after an upgrade, what uses a library that was replaced, as our front door."""
    install = "apt-get install -qy --no-install-recommends needrestart"
    box.run(f"apt-get update -q; DEBIAN_FRONTEND=noninteractive {install}")
    before, front = kernels.pids(), box.main_pid("kconnd.service")
    maps = f"cat /proc/{before['python3']}/maps /proc/{front}/maps"
    for name in ("libsqlite3", "libssl", "libz"):
        found = box.run(f"{maps} | grep -o '/usr/lib/.*/{name}\\.so.*' | sort -u").out.split()
        for path in found:
            box.run(f"cp {path} {path}.new && mv {path}.new {path}")
    said = box.run("needrestart -v -r a -l 2>&1").out
    assert box.main_pid("kconnd.service") != front, said
    assert f"kconnd-kernel-{box.uid('ada')}-python3" in said, "it was considered"
    assert kernels.pids() == before
    assert kernels.remember()


# --- shared memory

SHARED = 'shared_memory.SharedMemory(name="lasting", create=True, size=10)'
KEEP_IPC = f"{__file__.rpartition('/tests/')[0]}/scripts/install --keep-ipc"


@pytest.fixture
def quick_logout(box: Box) -> Iterator[None]:
    """Have logind see at once that a user has logged out, and not ten seconds later."""
    folder = "/etc/systemd/logind.conf.d"
    box.write(f"{folder}/quick.conf", "[Login]\nUserStopDelaySec=0\n")
    box.run("systemctl restart systemd-logind")
    yield
    box.run(f"rm -f {folder}/quick.conf {folder}/kconnd.conf /dev/shm/lasting")
    box.run("systemctl restart systemd-logind")


def log_out(box: Box) -> None:
    """Have the user manager gone that came with the logins of this test."""
    unit = f"user@{box.uid('ada')}.service"
    wait_for(lambda: box.try_(f"systemctl is-active -q {unit}").code != 0, "the last logout")
    wait_for(lambda: "ada" not in box.run("loginctl list-users").out, "logind to let go")


def shared_memory_outlives_a_logout(box: Box) -> bool:
    box.run("kconnd-ctl start python3", "ada")
    code = f"import os; from multiprocessing import shared_memory; kept = {SHARED}"
    code += '; print(os.path.exists("/dev/shm/lasting"))'
    assert box.run(f"kconnd-ctl run python3 -c '{code}'", "ada").out == "True\n"
    log_out(box)
    return box.try_("test -e /dev/shm/lasting").code == 0


def doctors_finding(box: Box) -> dict[str, str]:
    findings = json.loads(box.try_("kconnd-ctl doctor --json", "ada").out)["findings"]
    return next(one for one in findings if "shared memory" in one["what"])


@pytest.mark.usefixtures("quick_logout")
def test_doctor_says_that_a_logout_takes_shared_memory_and_the_cures(
    box: Box, prepared: Kernels
) -> None:
    assert not shared_memory_outlives_a_logout(box), "as logind is set without further ado"
    finding = doctors_finding(box)
    assert finding["level"] == "warn"
    assert "loginctl enable-linger" in finding["cure"]
    assert "scripts/install --keep-ipc" in finding["cure"]
    box.run("loginctl enable-linger ada")
    assert doctors_finding(box)["level"] == "ok"
    box.run("loginctl disable-linger ada")
    assert prepared.pids()["python3"]


@pytest.mark.nightly
@pytest.mark.usefixtures("quick_logout")
def test_an_installation_that_is_told_to_keeps_shared_memory(box: Box, prepared: Kernels) -> None:
    assert "scripts/install --keep-ipc keeps it" in box.run(KEEP_IPC.partition(" ")[0]).out
    assert "--keep-ipc" not in box.run(KEEP_IPC).out
    assert doctors_finding(box)["level"] == "ok"
    assert shared_memory_outlives_a_logout(box)
    assert prepared.pids()["python3"]
