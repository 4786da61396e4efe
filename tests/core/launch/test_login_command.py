"""A kernel from a login shell: scripts for real shells, those that are installed."""

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kconnd.core.launch.login_command import (
    find_setup_failures,
    refuse_setup,
    refuse_shell,
    through_shell,
)

# A kernel that prints its arguments and its environment; a Python would take ten times as long.
SHOW = ("/bin/sh", "-c", "printf '%s\\0' \"$@\" ===; exec env -0", "sh")
WORDS = ("a b", "c'd", 'e"f', "$HOME", "*", "g\nh", "x!y", "a\\b", "~", "", "`id`", "{a,b}", "ü#x")
POSIX = ("sh", "bash", "zsh", "mksh")
SHELLS = (*POSIX, "tcsh", "bsd-csh", "fish")
# A line that sets a variable, in the syntax of each shell.
SET = dict.fromkeys(POSIX, "export {}={}") | {"fish": "set -gx {} {}"}
SET |= dict.fromkeys(("tcsh", "bsd-csh"), "setenv {} {}")


def shell_of(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


class Kernel:
    """The end of a login shell: its failures, and the arguments and environment of its kernel."""

    def __init__(self, shell: str, *setup: str, home: Path, **more: str) -> None:
        env = {"HOME": str(home), "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", **more}
        command = through_shell((*SHOW, *WORDS), shell_of(shell), setup)
        done = subprocess.run(command, env=env, capture_output=True, check=False, text=True)
        self.code, self.failures = done.returncode, find_setup_failures(done.stderr)
        words, _, variables = done.stdout.partition("\0===\0")
        self.words = words.split("\0")
        self.env = dict(text.split("=", 1) for text in variables.split("\0")[:-1])


@pytest.mark.parametrize("shell", SHELLS)
def test_the_shell_becomes_the_kernel_with_its_arguments(shell: str, tmp_path: Path) -> None:
    lines = (SET[shell].format("A", "1"), SET[shell].format("JPY_PARENT_PID", "2"))
    kernel = Kernel(shell, *lines, home=tmp_path, JPY_PARENT_PID="1")
    assert kernel.words == list(WORDS)
    assert kernel.env["A"] == "1"
    assert "JPY_PARENT_PID" not in kernel.env
    assert not [name for name in kernel.env if "kconnd" in name]
    assert kernel.failures == ()


@pytest.mark.parametrize("shell", SHELLS)
def test_the_start_up_files_of_a_login_are_read(shell: str, tmp_path: Path) -> None:
    files = {"zsh": ".zprofile", "tcsh": ".login", "bsd-csh": ".login"}
    path = tmp_path / files.get(shell, ".profile")
    if shell == "fish":
        path = tmp_path / ".config/fish/config.fish"
        path.parent.mkdir(parents=True)
    path.write_text(SET[shell].format("FROM_LOGIN", "yes") + "\n", encoding="utf-8")
    assert Kernel(shell, home=tmp_path).env.get("FROM_LOGIN") == "yes"


@pytest.mark.parametrize("shell", SHELLS)
def test_a_line_that_fails_is_named_and_the_next_is_run(shell: str, tmp_path: Path) -> None:
    kernel = Kernel(shell, "true", "conda activate x", SET[shell].format("B", "2"), home=tmp_path)
    status = 1 if "csh" in shell else 127
    assert kernel.failures == (f"line 2 of setup failed, exit status {status}: conda activate x",)
    assert kernel.env["B"] == "2"


@pytest.mark.parametrize("shell", POSIX)
@pytest.mark.parametrize(
    ("setup", "env", "failures"),
    [
        (("if true", "then", "export A=3", "fi"), {"A": "3"}, ()),
        (("for i in 1 2; do", "export A=$i", "done"), {"A": "2"}, ()),
        (("case x in", "y) false;;", "x)", "export A=9;;", "esac", ":"), {"A": "9"}, ()),
        (("cat >&2 <<EOF", "it's text", "EOF", "export A='x", "y'"), {"A": "x\ny"}, ()),
        (("export A=1 \\", "B=4"), {"A": "1", "B": "4"}, ()),
        (("f() {", "export A=44", "}", "f"), {"A": "44"}, ()),
        (("# it's", "export A=1 # (x", ""), {"A": "1"}, ()),
        (("export A=$#", "export B=${1-none}"), {"A": "0", "B": "none"}, ()),
        (("false", "export A=$?"), {"A": "1"}, ("line 1 of setup failed, exit status 1: false",)),
        (("set -a", "A=7"), {"A": "7"}, ()),
    ],
)
def test_lines_that_belong_together_are_run_together(
    shell: str, setup: tuple[str, ...], env: dict[str, str], failures: object, tmp_path: Path
) -> None:
    kernel = Kernel(shell, *setup, home=tmp_path)
    assert {name: kernel.env.get(name) for name in env} == env
    assert kernel.failures == failures
    assert not [name for name in kernel.env if "kconnd" in name]


@pytest.mark.parametrize("shell", POSIX)
@pytest.mark.parametrize("line", ["exit 3", "set -e; false"])
def test_a_line_that_ends_the_shell_is_named(shell: str, line: str, tmp_path: Path) -> None:
    kernel = Kernel(shell, "true", line, "true", home=tmp_path)
    status = 3 if line == "exit 3" else 1
    report = f"line 2 of setup ended the shell, exit status {status}: {line}"
    assert (kernel.code, kernel.failures) == (status, (report,))


@pytest.mark.parametrize("shell", ["tcsh", "bsd-csh"])
def test_blocks_of_csh_are_run(shell: str, tmp_path: Path) -> None:
    block = ("if (1) then", "setenv A 3", "endif", "switch (b)", "case b:", "setenv B 4", "endsw")
    kernel = Kernel(shell, *block, home=tmp_path)
    assert (kernel.env["A"], kernel.env["B"], kernel.failures) == ("3", "4", ())


def test_blocks_of_fish_are_run(tmp_path: Path) -> None:
    block = ("if test -e /no; and true", "set -gx A 1", "else", "set -gx A 3", "end")
    kernel = Kernel("fish", *block, "for i in 1 2", "set -gx B $i", "end", home=tmp_path)
    assert (kernel.env["A"], kernel.env["B"], kernel.failures) == ("3", "2", ())


def test_the_scripts_of_csh_and_fish_report_outside_of_blocks() -> None:
    """A report within a block could change its meaning."""
    fish = through_shell(("k",), "/bin/fish", ("if true", "false", "end", "true"))[3].splitlines()
    assert fish[:3] == ["if true", "false", "end"]
    assert fish[3:5] == ["true", "set -l kconnd_status $status"]
    csh = through_shell(("k",), "/bin/csh", ("if (1) then", "false", "endif"))[2].splitlines()
    assert csh[3:7] == ["if (1) then", "false", "endif", "set kconnd_status = $status"]


@pytest.mark.parametrize("shell", SHELLS)
@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(words=st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))))
def test_any_word_reaches_the_kernel(shell: str, words: list[str]) -> None:
    command = through_shell(("/usr/bin/printf", "%s\\0", "", *words), shell_of(shell), ())
    env = {"HOME": "/none", "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}
    output = subprocess.check_output(command, env=env)
    assert output.decode().split("\0")[1:-1] == words


@pytest.mark.parametrize(
    ("shell", "reason"),
    [
        ("/usr/sbin/nologin", "runs no commands"),
        ("/bin/false", "runs no commands"),
        ("/bin/rbash", "is restricted"),
        ("/usr/bin/git-shell", "is restricted"),
        ("/usr/bin/nu", "has a syntax that kconnd does not support"),
    ],
)
def test_a_shell_that_cannot_run_a_kernel_is_refused_by_name(shell: str, reason: str) -> None:
    assert refuse_shell(shell).startswith(f"the login shell {shell} {reason}")


@pytest.mark.parametrize("shell", ["/bin/bash", "/usr/bin/fish", "/bin/tcsh", "/opt/our/shell"])
def test_other_shells_are_not_refused(shell: str) -> None:
    assert refuse_shell(shell) == ""


def test_loops_of_csh_are_refused() -> None:
    """These shells would run the body only once."""
    assert "'foreach i (1 2)'" in refuse_setup("/bin/tcsh", ("true", "  foreach i (1 2)"))
    assert refuse_setup("/bin/tcsh", ("setenv while 1", "if (1) then")) == ""
    assert refuse_setup("/bin/bash", ("while true; do",)) == ""


def test_a_report_has_no_control_characters_and_an_end() -> None:
    output = f"x\n[kconnd: line 2 of setup failed, exit status 1: \x1b[31m{'y' * 999}]\n"
    (report,) = find_setup_failures(output)
    assert report.isprintable()
    assert len(report) < 400
    assert find_setup_failures("[kconnd: 7 bytes of output could not be kept]\n") == ()
