"""Shapes of ``kernel.json``, each launched by jupyter_client and planned by kconnd, side by side.

jupyter_client really launches the program of each kernel spec; the arguments of its ``Popen`` are
recorded. Both sides have the same environment, so that argv and the variables of the kernel spec
have to be equal. Deliberate differences have tests of their own below.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jupyter_client.launcher
import pytest
from jupyter_client.manager import AsyncKernelManager

from kconnd.core.launch.kernel_files import kernel_files
from kconnd.core.launch.plan import SYSTEM_PATH, LaunchPlan
from kconnd.core.launch.session import Session
from kconnd.core.profile.model import Profile
from kconnd.errors import StartFailedError
from kconnd.system.launch_files import make_plan, read_launch_files
from kconnd.system.program_choice import ProgramHints
from tests.daemon.kernel.fakes import a_connection, make_world

TRUE = "/usr/bin/true"
OWN_VERSION = f"python{sys.version_info[0]}.{sys.version_info[1]}"
BASE = {"HOME": "/", "USER": "me", "LOGNAME": "me", "SHELL": "/bin/sh", "PATH": SYSTEM_PATH}

Content = Mapping[str, Any]


def provisioner(stanza: object) -> Content:
    return {"metadata": {"kernel_provisioner": stanza}}


RUN_BY_BOTH: dict[str, Content] = {
    "plain": {},
    "PATH before the inherited one": {"env": {"PATH": "/opt/x/bin:$PATH"}},
    "HOME and a dollar": {"env": {"DATA": "$HOME/data", "OTHER": "${HOME}x", "PRICE": "$$5"}},
    "unset variables": {"env": {"LIB": "/a:$NOT_SET:${NOT_SET}"}},
    "dollars that name nothing": {"env": {"X": "$ $9 ${ ${} $$$$ a$"}},
    "values do not refer to each other": {"env": {"A": "1", "B": "$A", "HOME": "/h", "C": "$HOME"}},
    "empty value": {"env": {"X": ""}},
    "prefix": {"argv": ["{prefix}/bin/kernel", "{connection_file}", "--at={prefix}"]},
    "resource_dir": {"argv": ["{resource_dir}/start.sh", "-f", "{connection_file}"]},
    "home": {"argv": [TRUE, "~", "~/a", "~root/b", "a~", "~no-such-user/x", "{connection_file}"]},
    "home of the program": {"argv": ["~/usr/bin/true", "{connection_file}"]},
    "unknown placeholders": {"argv": [TRUE, "{foo}", "{print $1}", "{", "{}", "{connection_file}"]},
    "a placeholder twice in a word": {"argv": [TRUE, "{connection_file}:{connection_file}"]},
    "local provisioner": provisioner({"provisioner_name": "local-provisioner"}),
    "unnamed provisioner": provisioner({}),
    "interrupt_mode in capitals": {"interrupt_mode": "Message"},
    "unusable supported_encryption": {"metadata": {"supported_encryption": 5}},
    "bare program": {"argv": ["true", "{connection_file}"]},
    "env in front": {"argv": ["env", "A=1", "true", "{connection_file}"]},
    "env by its path": {"argv": ["/usr/bin/env", "true", "{connection_file}"]},
    "a shell's script": {
        "argv": ["bash", "-c", 'set -e; exec true "$@" ${X:-{y}}', "x", "-f{connection_file}"]
    },
    "a runner of environments": {
        "argv": ["env", "conda", "run", "-n", "e", "--no-capture-output", "python", "-m", "x"],
    },
    "a path with a blank": {"argv": ["{resource_dir}/with blank/k", "{connection_file}"]},
    "a relative path": {"argv": ["usr/bin/true", "{connection_file}"]},
    "an empty word": {"argv": [TRUE, "", "{connection_file}", " "]},
    "a path with dots": {"argv": ["/usr/lib/../bin/true", "{connection_file}"]},
    "an empty PATH": {"argv": ["true", "{connection_file}"], "env": {"PATH": "/usr/bin::"}},
    "a relative folder on PATH": {
        "argv": ["true", "{connection_file}"],
        "env": {"PATH": "no/such:usr/bin:./bin"},
    },
    "a tilde on PATH": {"argv": ["true", "{connection_file}"], "env": {"PATH": "~/bin:$PATH"}},
    "ä name": {"argv": ["{resource_dir}/kérnel", "{connection_file}", "ü€𝄞"]},
}

ARGV = [TRUE, "{connection_file}"]


# The key that the message of kconnd names, and the kernel spec.
REFUSED_BY_BOTH: dict[str, tuple[str, Content]] = {
    "null in env": ("env.X is null", {"env": {"X": None}}),
    "true in env": ("env.X is true", {"env": {"X": True}}),
    "number in env": ("env.X is a number", {"env": {"X": 5}}),
    "NUL in env": ("env.X holds a NUL", {"env": {"X": "a\0b"}}),
    "half a character in env": ("env.X holds half a surrogate", {"env": {"X": "\ud800"}}),
    "equals sign in a name": ("'A=B' is not a name", {"env": {"A=B": "x"}}),
    "env null": ("env is null", {"env": None}),
    "env a list": ("env is a list", {"env": ["A=1"]}),
    "interrupt_mode": ("interrupt_mode: 'sigint'", {"interrupt_mode": "sigint"}),
    "interrupt_mode null": ("interrupt_mode is null", {"interrupt_mode": None}),
    "metadata text": ("metadata is text", {"metadata": "x"}),
    "metadata null": ("metadata is null", {"metadata": None}),
    "display_name null": ("display_name is null", {"display_name": None}),
    "language a number": ("language is a number", {"language": 5}),
    "resource_dir": ("resource_dir cannot be set", {"resource_dir": "/x"}),
    "number in argv": (r"argv\[1\] is a number", {"argv": [TRUE, 5, "{connection_file}"]}),
    "NUL in argv": (r"argv\[1\] holds a NUL", {"argv": [TRUE, "a\0", "{connection_file}"]}),
    "empty program": (r"argv\[0\] is empty", {"argv": ["", "{connection_file}"]}),
    "no argv": ("argv is not a list", {"argv": []}),
    "argv null": ("argv is not a list", {"argv": None}),
    "provisioner": ("the provisioner 'acme'", provisioner({"provisioner_name": "acme"})),
    "provisioner null": ("metadata.kernel_provisioner is null", provisioner(None)),
}
REFUSED_BY_KCONND: dict[str, tuple[str, Content]] = {
    "kernel_id": (r"only a gateway fills in \{kernel_id\}", {"argv": [*ARGV, "{kernel_id}"]}),
    "response_address": ("only a gateway", {"argv": [*ARGV, "--reply={response_address}"]}),
    "process_proxy": ("metadata.process_proxy", {"metadata": {"process_proxy": {}}}),
}


@dataclass
class Jupyter:
    """A Jupyter whose environment holds one kernel spec, ``shape``.

    Parameters
    ----------
    prefix : Path
        The folder of the environment.
    launched : dict
        The arguments of the latest process that jupyter_client has launched.
    """

    prefix: Path
    launched: dict[str, Any]

    @property
    def folder(self) -> Path:
        return self.prefix / "share/jupyter/kernels/shape"

    @property
    def path(self) -> str:
        """A ``PATH`` with this Jupyter."""
        return f"{self.prefix}/bin:{SYSTEM_PATH}"

    def install(self, content: Content, folder: Path | None = None) -> None:
        """Install a kernel spec, in the environment unless a folder is named."""
        folder = folder or self.folder
        folder.mkdir(parents=True)
        spec = {"argv": [TRUE, "{connection_file}"], "display_name": "shape", "language": "sh"}
        text = json.dumps({**spec, **content})
        (folder / "kernel.json").write_text(text, encoding="utf-8")
        (folder / "with blank").mkdir()
        for name in ("start.sh", "with blank/k", "kérnel"):
            program = folder / name
            program.write_text("#!/bin/sh\n", encoding="utf-8")
            program.chmod(0o755)

    async def launch(self, connection_file: str) -> dict[str, Any]:
        """Launch the kernel spec by jupyter_client; return the arguments of the process."""
        manager = AsyncKernelManager(kernel_name="shape", connection_file=connection_file)
        try:
            await manager.start_kernel()
            await manager.shutdown_kernel(now=True)
        finally:
            await manager.cleanup_resources()
        return self.launched


@pytest.fixture
def jupyter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Jupyter:
    launched: dict[str, Any] = {}
    popen: Callable[..., subprocess.Popen[bytes]] = subprocess.Popen

    def record(command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        launched.update(argv=command, env=options["env"])
        return popen(command, **options)

    for name in list(os.environ):
        monkeypatch.delenv(name)
    own = {"JUPYTER_PATH": tmp_path / "env/share/jupyter", "JUPYTER_DATA_DIR": tmp_path / "data"}
    for name, value in {**BASE, **own, "JUPYTER_RUNTIME_DIR": tmp_path}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.chdir("/")  # the working directory of both: the home folder
    monkeypatch.setattr(jupyter_client.launcher, "Popen", record)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "env"))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "env/bin/python3"))
    (tmp_path / "env/bin").mkdir(parents=True)
    for name in ("kernel", "python3", OWN_VERSION):
        (tmp_path / "env/bin" / name).symlink_to(TRUE)
    script = tmp_path / "env/bin/jupyter"
    script.write_text(f"#!{sys.executable}\n", encoding="utf-8")
    script.chmod(0o755)
    return Jupyter(tmp_path / "env", launched)


def from_session(path: str = SYSTEM_PATH, prefix: str = "") -> ProgramHints:
    """Return what is known for a start from a session of the owner."""
    return ProgramHints(session=Session(path=path, prefix=prefix))


async def plan_of(
    folder: Path, profile: Profile | None = None, hints: ProgramHints | None = None
) -> LaunchPlan:
    """Plan a launch of the installed kernel spec, as the daemon does."""
    world = make_world(folder)
    files = kernel_files(str(world.runtime_dir), str(folder / "s"), "shape")
    profile = profile or Profile(name="shape", kernel="shape")
    launch_files = await read_launch_files(world, profile, hints)
    return make_plan(world, files, 1, profile, launch_files, a_connection(folder))


@pytest.mark.parametrize("content", RUN_BY_BOTH.values(), ids=RUN_BY_BOTH)
async def test_argv_and_variables_are_those_of_jupyter(
    content: Content, jupyter: Jupyter, tmp_path: Path
) -> None:
    jupyter.install(content)
    plan = await plan_of(tmp_path)
    launched = await jupyter.launch(plan.files.connection_file)
    assert plan.argv == tuple(launched["argv"])
    names = content.get("env", {})
    assert {name: plan.env[name] for name in names} == {
        name: launched["env"][name] for name in names
    }


def assert_refused(error: StartFailedError, reason: str, jupyter: Jupyter) -> None:
    """Check that an error names the file, a line and a column, the reason and a change."""
    file = re.escape(str(jupyter.folder / "kernel.json"))
    assert re.fullmatch(rf"reading the kernel spec {file}:1:\d+: .*{reason}.*", error.message)
    assert error.hint


@pytest.mark.parametrize(("reason", "content"), REFUSED_BY_BOTH.values(), ids=REFUSED_BY_BOTH)
async def test_what_jupyter_refuses_is_refused_with_the_reason(
    reason: str, content: Content, jupyter: Jupyter, tmp_path: Path
) -> None:
    jupyter.install(content)
    with pytest.raises(StartFailedError) as caught:
        await plan_of(tmp_path)
    assert_refused(caught.value, reason, jupyter)
    # Jupyter raises whatever its libraries raise: TraitError, TypeError, NoSuchKernel …
    with pytest.raises(Exception):  # noqa: B017, PT011
        await jupyter.launch(str(tmp_path / "connection.json"))


@pytest.mark.parametrize(("reason", "content"), REFUSED_BY_KCONND.values(), ids=REFUSED_BY_KCONND)
async def test_what_only_a_gateway_can_launch_is_refused(
    reason: str, content: Content, jupyter: Jupyter, tmp_path: Path
) -> None:
    jupyter.install(content)
    with pytest.raises(StartFailedError) as caught:
        await plan_of(tmp_path)
    assert_refused(caught.value, reason, jupyter)
    assert "gateway" in caught.value.hint


async def test_a_spec_that_leads_to_a_profile_names_the_profile(
    jupyter: Jupyter, tmp_path: Path
) -> None:
    stanza = {"provisioner_name": "kconnd", "config": {"profile": "lab"}}
    jupyter.install(provisioner(stanza))
    with pytest.raises(StartFailedError) as caught:
        await plan_of(tmp_path)
    assert "kconnd-ctl start lab" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b'{"argv": ["x",\n "y"', ":2:5: not JSON: Expecting"),
        (b'{"argv": ["\xff"]}', ": .*can't decode byte 0xff"),
        (b"[]", ":1:1: the file is a list, and an object is needed"),
        (b'{"display_name": "x"}', ":1:1: argv is not a list of text"),
        (b'{\n "argv": ["x"],\n "env": {"X":\n  null}\n}', ":4:3: env.X is null"),
    ],
)
async def test_a_broken_file_is_refused_with_its_place(
    text: bytes, message: str, jupyter: Jupyter, tmp_path: Path
) -> None:
    jupyter.install({})
    file = jupyter.folder / "kernel.json"
    file.write_bytes(text)
    with pytest.raises(StartFailedError, match=f"{re.escape(str(file))}{message}"):
        await plan_of(tmp_path)


async def test_only_jupyter_names_a_parent(jupyter: Jupyter, tmp_path: Path) -> None:
    jupyter.install({"env": {"JPY_PARENT_PID": "1"}})
    (tmp_path / "env_file").write_text("JPY_PARENT_PID=1\nA=1\n", encoding="utf-8")
    profile = Profile(name="shape", kernel="shape", env_file=str(tmp_path / "env_file"))
    plan = await plan_of(tmp_path, profile)
    assert plan.env["A"] == "1"
    assert "JPY_PARENT_PID" not in plan.env
    assert "JPY_PARENT_PID" in (await jupyter.launch(plan.files.connection_file))["env"]


async def test_a_program_beside_the_spec_puts_a_real_folder_on_path(
    jupyter: Jupyter, tmp_path: Path
) -> None:
    jupyter.install({"argv": ["{resource_dir}/start.sh", "{connection_file}"]})
    assert (await plan_of(tmp_path)).env["PATH"] == f"{jupyter.folder}:{SYSTEM_PATH}"


async def test_a_bare_program_is_first_that_of_the_specs_environment(
    jupyter: Jupyter, tmp_path: Path
) -> None:
    jupyter.install({"argv": ["kernel", "{connection_file}"]})
    plan = await plan_of(tmp_path)
    assert plan.argv[0] == str(jupyter.prefix / "bin/kernel")
    assert plan.env["PATH"] == f"{jupyter.prefix}/bin:{SYSTEM_PATH}"


DATA = "data/kernels/shape"  # in the user's data folder, which belongs to no environment


@pytest.mark.parametrize("folder", ["env/share/jupyter/kernels/shape", DATA])
@pytest.mark.parametrize("word", ["python", "python3", OWN_VERSION, "{prefix}/bin/python3"])
async def test_a_bare_python_is_that_of_the_jupyter_of_the_user(
    word: str, folder: str, jupyter: Jupyter, tmp_path: Path
) -> None:
    jupyter.install({"argv": [word, "-m", "x", "{connection_file}"]}, tmp_path / folder)
    hints = [from_session(path=jupyter.path), from_session(prefix=str(jupyter.prefix))]
    for hint in hints:
        plan = await plan_of(tmp_path, hints=hint)
        launched = (await jupyter.launch(plan.files.connection_file))["argv"]
        assert plan.argv[1:] == tuple(launched[1:])
        assert Path(plan.argv[0]).parent == Path(launched[0]).parent
        assert plan.env["PATH"] == f"{jupyter.prefix}/bin:{SYSTEM_PATH}"


async def test_a_bare_python_without_a_known_jupyter_is_refused(
    jupyter: Jupyter, tmp_path: Path
) -> None:
    jupyter.install({"argv": ["python3", "-m", "ipykernel", "{connection_file}"]}, tmp_path / DATA)
    hints = from_session(path="/no/bin")
    searched = r"searched: jupyter on the PATH of the session in which it was started \(/no/bin"
    with pytest.raises(StartFailedError, match=searched):
        await plan_of(tmp_path, hints=hints)
    service = replace(from_session(path=jupyter.path), service_prefix=str(jupyter.prefix))
    with pytest.raises(StartFailedError, match="it belongs to the service kconnd"):
        await plan_of(tmp_path, hints=service)


async def test_another_version_is_that_on_path_as_in_jupyter(
    jupyter: Jupyter, tmp_path: Path
) -> None:
    other = tmp_path / "bin/python3.99"
    other.parent.mkdir()
    other.symlink_to(TRUE)
    path = f"{tmp_path}/bin:$PATH"
    content = {"argv": ["python3.99", "{connection_file}"], "env": {"PATH": path}}
    jupyter.install(content, tmp_path / DATA)
    plan = await plan_of(tmp_path, hints=from_session(prefix=str(jupyter.prefix)))
    launched = await jupyter.launch(plan.files.connection_file)
    assert plan.argv == tuple(launched["argv"])
    assert plan.env["PATH"] == launched["env"]["PATH"]


async def test_folders_that_the_spec_puts_on_path_are_searched_as_in_jupyter(
    jupyter: Jupyter, tmp_path: Path
) -> None:
    program = tmp_path / "bin/special"
    program.parent.mkdir()
    program.symlink_to(TRUE)
    content = {"argv": ["special", "{connection_file}"], "env": {"PATH": f"{tmp_path}/bin:$PATH"}}
    jupyter.install(content)
    plan = await plan_of(tmp_path)
    launched = await jupyter.launch(plan.files.connection_file)
    assert plan.argv == tuple(launched["argv"])
    assert plan.env["PATH"] == launched["env"]["PATH"]


async def test_a_missing_program_names_the_folders_that_were_searched(
    jupyter: Jupyter, tmp_path: Path
) -> None:
    jupyter.install({"argv": ["no-such", "{connection_file}"]})
    searched = f"{jupyter.prefix}/bin, {SYSTEM_PATH.replace(':', ', ')}"
    with pytest.raises(StartFailedError, match=f"the program no-such: .*; searched: {searched}"):
        await plan_of(tmp_path)
    with pytest.raises(FileNotFoundError):
        await jupyter.launch(str(tmp_path / "connection.json"))


async def test_a_restart_runs_the_program_of_the_start(jupyter: Jupyter, tmp_path: Path) -> None:
    jupyter.install({"argv": ["python3", "-m", "x", "{connection_file}"]})
    world = make_world(tmp_path)
    profile = Profile(name="shape", kernel="shape")
    first = (await read_launch_files(world, profile, ProgramHints())).program
    other = tmp_path / "other/python3"
    other.parent.mkdir()
    other.symlink_to(TRUE)
    kept = ProgramHints(kept=replace(first, path=str(other)))
    assert (await plan_of(tmp_path, hints=kept)).argv[0] == str(other)
    other.unlink()
    with pytest.raises(StartFailedError, match="with which the kernel was started, does not exist"):
        await plan_of(tmp_path, hints=kept)
    another_spec = ProgramHints(kept=replace(first, path=str(other), spec_dir="/other"))
    assert (await plan_of(tmp_path, hints=another_spec)).argv[0] == first.path


async def test_a_relative_program_puts_nothing_on_path(jupyter: Jupyter, tmp_path: Path) -> None:
    jupyter.install({"argv": ["usr/bin/true", "{connection_file}"]})
    assert (await plan_of(tmp_path)).env["PATH"] == SYSTEM_PATH


async def test_a_spec_of_the_user_has_no_prefix(
    jupyter: Jupyter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(jupyter.prefix / "share/jupyter"))
    jupyter.install({"argv": ["{prefix}/bin/kernel", "{connection_file}"]})
    with pytest.raises(StartFailedError, match=r"kernel.json:1:11: argv\[0\] holds \{prefix\}"):
        await plan_of(tmp_path)


async def test_variables_of_a_profile_refer_to_those_of_its_spec(
    jupyter: Jupyter, tmp_path: Path
) -> None:
    jupyter.install({"env": {"PATH": "/opt/x/bin:$PATH"}})
    variables = {"PATH": "$HOME/bin:$PATH", "PRICE": "$$5", "X": "$NO"}
    profile = Profile(name="shape", kernel="shape", env=variables)
    env = (await plan_of(tmp_path, profile)).env
    assert env["PATH"] == f"//bin:/opt/x/bin:{SYSTEM_PATH}"
    assert (env["PRICE"], env["X"]) == ("$5", "$NO")
