"""A session whose HOME is not the home folder of its account, with real daemons and kernels."""

import json
import sys
from pathlib import Path

from tests.end_to_end.container import SHARED, Container, needs_namespaces
from tests.end_to_end.daemon import IPYKERNEL, SMALL

HOME = f"{SHARED}/scratch/ada"
NO_PLACES = {"XDG_CONFIG_HOME": "", "XDG_STATE_HOME": "", "XDG_DATA_HOME": ""}
ENV = {"HOME": HOME, **NO_PLACES}
SHOWN = "import os; print(os.environ['HOME'], os.path.expanduser('~'), os.getcwd())"


@needs_namespaces
def test_client_daemon_and_kernel_use_the_home_of_the_session(folder: Path) -> None:
    configs = folder / "scratch/ada/.config/kconnd/configs"
    configs.mkdir(parents=True)
    (configs / "lab.yaml").write_text(
        f"{IPYKERNEL}cwd: ~/work\nenv_file: ~/env\n", encoding="utf-8"
    )
    (configs.parents[2] / "work").mkdir()
    (configs.parents[2] / "env").touch()
    with Container(folder, "one") as machine:
        assert "1 profile, 0 faults" in machine.ctl("check", env=ENV).stdout
        machine.ctl("start", "lab", env=ENV)
        health = json.loads(machine.ctl("health", "--json", env=ENV).stdout)
        assert health["home"] == HOME
        assert health["configs"] == [f"{HOME}/.config/kconnd/configs"]
        assert health["state_dir"].startswith(f"{HOME}/.local/state/kconnd/")
        shown = machine.ctl("run", "lab", "-c", SHOWN, env=ENV).stdout
        assert shown == f"{HOME} {HOME} {HOME}/work\n"
        # A session with another home finds the same daemon, and doctor says which home it has.
        other = {"HOME": str(SHARED), **NO_PLACES}
        assert json.loads(machine.ctl("info", "lab", "--json", env=other).stdout)["pid"]
        doctor = machine.ctl("doctor", env=other, code=None).stdout
        assert f"the daemon's home folder is {HOME}, and this session's is {SHARED}" in doctor


@needs_namespaces
def test_root_does_not_use_the_home_of_another_user(folder: Path) -> None:
    (folder / "ada").mkdir()
    with Container(folder, "one") as machine:
        machine.run("chown", "1234", f"{SHARED}/ada")
        env = {"HOME": f"{SHARED}/ada", **NO_PLACES}
        doctor = machine.ctl("doctor", env=env, code=None).stdout
        assert f"HOME is '{SHARED}/ada', which kconnd does not use" in doctor
        assert f"0 profiles in {SHARED}/ada" not in doctor
        machine.run("chown", "0", f"{SHARED}/ada")


@needs_namespaces
def test_a_home_that_cannot_be_written_to_is_named_with_a_cure(folder: Path) -> None:
    (folder / "home").mkdir()
    home = f"{SHARED}/home"
    with Container(folder, "one") as machine:

        def refused(home: str) -> str:
            env = {"HOME": home, **NO_PLACES}
            return machine.ctl("start", "python3", env=env, code=6).stderr

        machine.run("mount", "--bind", home, home)
        machine.run("mount", "-o", "remount,bind,ro", home)
        assert f"starting a daemon: {home}/.local: Read-only file system" in refused(home)
        assert "set HOME to a folder that you can write to" in refused(home)
        machine.run("umount", home)
        machine.run("mount", "-t", "tmpfs", "-o", "nr_inodes=1", "none", home)
        assert f"starting a daemon: {home}/.local: No space left on device" in refused(home)
        assert f"free some space on the disk of {home}/.local" in refused(home)
        doctor = machine.ctl("doctor", env={"HOME": home, **NO_PLACES}, code=1).stdout
        assert "cannot be written to: No space left on device" in doctor
        assert "the home folder /proc/none does not exist" in refused("/proc/none")


@needs_namespaces
def test_a_session_with_another_tmp_is_told_so_with_a_cure(folder: Path) -> None:
    configs = folder / ".config/kconnd/configs"
    configs.mkdir(parents=True)
    (configs / "lab.yaml").write_text(SMALL, encoding="utf-8")
    with (
        Container(folder, "one", own_pids=False) as first,
        Container(folder, "one", own_pids=False) as second,
    ):
        first.ctl("start", "lab")
        pid = json.loads(first.ctl("health", "--json").stdout)["pid"]
        said = second.ctl("start", "lab", code=6).stderr
        assert f"starting a daemon: the daemon, pid {pid}, has another /tmp" in said
        assert f"loginctl enable-linger, then kill {pid}" in said
        doctor = second.ctl("doctor", code=1).stdout
        assert f"bad  the daemon, pid {pid}, has another /tmp than this session" in doctor
        daemon = second.run(sys.executable, "-m", "kconnd.daemon.main", code=1).stderr
        assert f"the daemon, pid {pid}, has another /tmp than this session" in daemon
        assert first.info("lab")["state"] == "running"
