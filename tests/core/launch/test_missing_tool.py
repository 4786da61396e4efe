"""A login shell that does not know conda or environment modules."""

import pytest

from kconnd.core.launch.missing_tool import (
    activation_lines,
    find_missing_tool,
    hint_for_missing_tool,
)


@pytest.mark.parametrize(
    ("output", "tool"),
    [
        ("kconnd: line 22: conda: command not found", "conda"),  # bash
        ("kconnd: 1: module: not found", "module"),  # dash
        ("zsh:1: command not found: mamba\n", "mamba"),
        ("E: kconnd: conda: inaccessible or not found", "conda"),  # mksh
        ("kconnd: line 0: conda: not found", "conda"),  # busybox
        ("conda: Command not found.", "conda"),  # csh
        ("fish: Unknown command: micromamba\nfish: \n", "micromamba"),
        ("ml: command not found", "ml"),
        ("CondaError: Run 'conda init' before 'conda activate'", "conda"),
        ("To initialize your shell, run\n\n    $ conda init <SHELL_NAME>", ""),
        ("python: command not found", ""),
        ("xml: command not found", ""),
        ("command not found: mlflow", ""),
        ("", ""),
    ],
)
def test_the_messages_of_shells_are_recognised(output: str, tool: str) -> None:
    assert find_missing_tool(output) == tool


@pytest.mark.parametrize(
    ("tool", "shell", "line"),
    [
        ("conda", "/bin/bash", "source /h/miniforge3/etc/profile.d/conda.sh"),
        ("conda", "/bin/dash", ". /h/miniforge3/etc/profile.d/conda.sh"),
        ("conda", "/bin/tcsh", "source /h/miniforge3/etc/profile.d/conda.csh"),
        ("mamba", "/bin/fish", "source /opt/conda/etc/fish/conf.d/mamba.fish"),
        ("micromamba", "/bin/zsh", 'eval "$(/h/.local/bin/micromamba shell hook -s posix)"'),
        ("micromamba", "/bin/fish", "/h/.local/bin/micromamba shell hook -s fish | source"),
        ("micromamba", "/bin/tcsh", "eval `/h/.local/bin/micromamba shell hook -s tcsh`"),
        ("module", "/bin/bash", "source /etc/profile.d/modules.sh"),
        ("ml", "/bin/csh", "source /etc/profile.d/lmod.csh"),
        ("ml", "/bin/zsh", "source /usr/share/lmod/lmod/init/zsh"),
        ("module", "/bin/fish", "source /usr/share/modules/init/fish"),
    ],
)
def test_each_shell_has_its_line(tool: str, shell: str, line: str) -> None:
    lines = list(activation_lines(tool, shell, "/h"))
    assert line in [suggestion for _, suggestion in lines]
    assert all(path in suggestion for path, suggestion in lines)


def test_the_hint_has_the_line() -> None:
    assert hint_for_missing_tool("conda", "source /x").endswith("first: source /x")
    assert "makes it known" in hint_for_missing_tool("conda", "")
