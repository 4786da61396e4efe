"""Kernel specs whose names are no kernel names, as real kernels: they answer to both names."""

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from kconnd.core.names import derived_name
from tests.end_to_end.daemon import SMALL_KERNEL, Daemon, DaemonError
from tests.end_to_end.test_ctl import ctl

LONG = "a-name-that-is-longer-than-forty-letters-as-ipykernel-install-makes"
HOSTILE = "evil\x1b]0;title\x07\n2026-01-01 ERROR \u202e..\\..%s"
SPECS = ("C++ 17", "_lead", "größe", LONG, HOSTILE)


def install(folder: Path, name: str, argv: list[str]) -> None:
    spec = folder / "jupyter-path" / "kernels" / name
    spec.mkdir(parents=True, exist_ok=True)
    content = {"argv": argv, "display_name": f"The {name}", "env": {"OF_SPEC": name}}
    (spec / "kernel.json").write_text(json.dumps(content), encoding="utf-8")


def start(daemon: Daemon) -> Daemon:
    return daemon.start(env={**os.environ, "JUPYTER_PATH": str(daemon.folder / "jupyter-path")})


@pytest.fixture
def specs(daemon: Daemon) -> Daemon:
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    for name in SPECS:
        install(daemon.folder, name, command)
    return start(daemon)


def answer(daemon: Daemon, *words: str) -> Any:
    outcome = ctl(daemon, *words, "--json")
    assert outcome.code == 0, outcome.err
    return outcome.json


def test_each_spec_lives_under_its_derived_name_and_answers_to_jupyters(specs: Daemon) -> None:
    """It starts five ipykernels, which is why it is slow."""
    started = ctl(specs, "start", *SPECS)
    assert started.code == 0, started.err
    for name, line in zip(SPECS, started.out.splitlines(), strict=True):
        assert line.startswith(f"{derived_name(name)} (derived from {name.lower()!r}) is ready: ")
    rows = {row["name"]: row["jupyter_name"] for row in answer(specs, "list")["kernels"]}
    assert rows == {derived_name(name): name.lower() for name in SPECS}
    for name in SPECS:
        kernel = answer(specs, "info", name)
        assert kernel["name"] == derived_name(name)
        assert kernel["pid"] == answer(specs, "info", derived_name(name))["pid"]
        check_words(kernel, name)
    code = "import os; print(os.environ['KCONND_KERNEL'], os.environ['OF_SPEC'] == {!r})"
    shown = ctl(specs, "run", SPECS[0].lower(), "-c", code.format(SPECS[0]))
    assert shown.out == f"{derived_name(SPECS[0])} True\n", shown.err
    specs.kill()
    start(specs)
    generations = [row["generation"] for row in answer(specs, "restart", *SPECS)["kernels"]]
    assert generations == [2] * len(SPECS)
    for name in SPECS:
        shutil.rmtree(specs.folder / "jupyter-path" / "kernels" / name)
    stopped = answer(specs, "stop", *SPECS)["kernels"]
    assert [row["state"] for row in stopped] == ["stopped"] * len(SPECS)
    check_files(specs)


def check_words(kernel: dict[str, Any], name: str) -> None:
    """Check that the command lines of the kernel and its shim have the derived name alone."""
    shim = Path(f"/proc/{kernel['pid']}/stat").read_text(encoding="utf-8").split()[3]
    for pid in (kernel["pid"], shim):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode()
        assert derived_name(name) in words
        assert name not in words


def check_files(daemon: Daemon) -> None:
    """Check that paths and log lines have the derived names alone."""
    shutil.rmtree(daemon.folder / "jupyter-path")
    paths = [str(path.relative_to(daemon.folder)) for path in daemon.folder.rglob("*")]
    texts = [*paths, *daemon.said().splitlines()]
    assert all(text.isprintable() for text in texts)
    for name in SPECS:
        assert any(derived_name(name) in path for path in paths)
        assert not [text for text in texts if name in text or name.lower() in text]


@pytest.fixture
def small(daemon: Daemon) -> Daemon:
    command = [sys.executable, str(SMALL_KERNEL), "{connection_file}"]
    for name in ("C++", "D+ [1]"):
        install(daemon.folder, name, command)
    return start(daemon)


def test_a_profile_with_a_derived_name_takes_precedence_and_the_clash_is_reported(
    small: Daemon,
) -> None:
    name = derived_name("c++")
    small.profile(name, "argv: [sh, -c, 'exit 3', '{connection_file}']\n")
    small.profile("mine", "kernel: 'C++'\ntransport: ipc\n")
    small.ask("POST", "/v1/reload")
    refused = ctl(small, "start", "C++")
    assert refused.code == 2
    assert f"would be named {name}, and the profile in {small.configs}" in refused.err
    assert "kernel: 'c++'" in refused.err
    assert answer(small, "start", "mine")["kernels"][0]["state"] == "running"
    with pytest.raises(DaemonError, match="there is no kernel '_c_'"):
        small.post("_c_", "start")


def test_a_name_with_wildcards_and_a_console_mean_the_kernel_of_the_spec(small: Daemon) -> None:
    name = derived_name("d+ [1]")
    assert answer(small, "start", "D+ [1]")["kernels"][0]["name"] == name
    command = answer(small, "console", "D+ [1]")["command"]
    assert name in command
    assert "D+ [1]" not in command
    assert ctl(small, "stop", "d+ [1]", "--yes").out == f"{name} is stopped\n"
