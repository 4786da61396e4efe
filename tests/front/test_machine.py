"""What root has written for the whole machine, while it is being written."""

import os
from pathlib import Path

from kconnd.front.machine import Machine
from tests.conftest import wait_for

ME = os.geteuid()


def test_a_profile_of_the_machine_is_read_once_it_is_left_alone(tmp_path: Path) -> None:
    configs = tmp_path / "configs"
    configs.mkdir(mode=0o755)
    machine = Machine(str(configs), str(tmp_path / "kconnd.yaml"), uid=ME)
    assert machine.profiles.profiles == {}
    file = configs / "lab.yaml"
    file.write_text("kernel: python3\n", encoding="utf-8")
    file.chmod(0o644)
    assert machine.profiles.profiles == {}, "it may be half of what is to come"
    wait_for(lambda: "lab" in machine.profiles.profiles, "the profile")
    file.write_text("kernel: python3\nlimits: {tasks: 9}\n", encoding="utf-8")
    machine.reload()
    assert machine.profiles.profiles["lab"].profile.limits.tasks == 9
