"""Kernels from the login shells that users have, with real daemons and real ipykernels.

Each test runs in a container in which root has another login shell.
"""

import shutil
from pathlib import Path

import pytest

from tests.conftest import wait_for
from tests.end_to_end.container import SHARED, Container, needs_namespaces
from tests.end_to_end.daemon import IPYKERNEL, SMALL

SHELLS = {
    "zsh": ("export A=1", "conda activate x"),
    "dash": ("export A=1", "conda activate x"),
    "mksh": ("export A=1", "conda activate x"),
    "tcsh": ("setenv A 1", "conda activate x"),
    "bsd-csh": ("setenv A 1", "conda activate x"),
    "fish": ("set -gx A 1", "conda activate x"),
}
SHOWN = "import os; print(os.environ['A'], os.environ['FROM_SPEC'], 'JPY_PARENT_PID' in os.environ)"


def _configs(home: Path) -> Path:
    configs = home / ".config/kconnd/configs"
    configs.mkdir(parents=True)
    return configs


def _set_login_shell(machine: Container, shell: str) -> None:
    row = f"root:x:0:0:root:{SHARED}:{shell}"
    machine.run("sh", "-c", f"(echo {row}; grep -v ^root: /etc/passwd) >/tmp/passwd")
    machine.run("mount", "--bind", "/tmp/passwd", "/etc/passwd")


@needs_namespaces
@pytest.mark.parametrize("name", SHELLS)
def test_a_kernel_runs_from_each_login_shell(name: str, folder: Path) -> None:
    shell = shutil.which(name)
    if shell is None:
        pytest.skip(f"{name} is not installed")
    setup = "".join(f"  {line}\n" for line in SHELLS[name])
    profile = f"{IPYKERNEL}env: {{FROM_SPEC: 'a b'}}\nshell: login\nsetup: |\n{setup}"
    (_configs(folder) / "lab.yaml").write_text(profile, encoding="utf-8")
    with Container(folder, "one") as machine:
        _set_login_shell(machine, shell)
        machine.ctl("start", "lab")
        assert machine.ctl("run", "lab", "-c", SHOWN).stdout == "1 a b False\n"
        pid = machine.info("lab")["pid"]
        assert b"-m\0ipykernel" in machine.root(f"/proc/{pid}/cmdline").read_bytes()
        wait_for(lambda: machine.info("lab")["warnings"], "the failure to be shown")
        (warning,) = machine.info("lab")["warnings"]
        assert warning.startswith("line 2 of setup failed, exit status ")
        assert warning.endswith(": conda activate x")


@needs_namespaces
def test_a_login_shell_that_runs_no_commands_is_refused_by_name(folder: Path) -> None:
    (_configs(folder) / "lab.yaml").write_text(f"{SMALL}shell: login\n", encoding="utf-8")
    with Container(folder, "one") as machine:
        _set_login_shell(machine, "/usr/sbin/nologin")
        said = machine.ctl("start", "lab", code=1).stderr
        assert "the login shell /usr/sbin/nologin runs no commands" in said
        assert "remove 'shell: login' from the profile" in said


@needs_namespaces
def test_a_start_that_fails_names_the_line_and_what_to_write(folder: Path) -> None:
    profile = f"{SMALL}shell: login\nsetup: [conda activate x, exit 3]\n"
    (_configs(folder) / "lab.yaml").write_text(profile, encoding="utf-8")
    script = folder / "miniforge3/etc/profile.d/conda.sh"
    script.parent.mkdir(parents=True)
    script.write_text("conda() { export ENVIRONMENT=$2; false; }\n", encoding="utf-8")
    with Container(folder, "one") as machine:
        _set_login_shell(machine, "/bin/bash")
        said = machine.ctl("start", "lab", code=1).stderr
        assert (
            "exited with code 3 (line 1 of setup failed, exit status 127: conda activate x;" in said
        )
        assert "line 2 of setup ended the shell, exit status 3: exit 3" in said
        line = f"source {SHARED}/miniforge3/etc/profile.d/conda.sh"
        assert f"put this line into 'setup' first: {line}\n" in said
        # With this line, `conda activate` returns a failure, as conda's scripts may, and the kernel
        # is started all the same.
        profile = f"{SMALL}shell: login\nsetup: ['{line}', conda activate x]\n"
        (folder / ".config/kconnd/configs/lab.yaml").write_text(profile, encoding="utf-8")
        machine.ctl("reload")
        machine.ctl("start", "lab")
