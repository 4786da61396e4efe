"""The search for a program that a command names without a path, on a file system of texts."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kconnd.core.launch.kernelspec_file import KernelSpec
from kconnd.core.launch.program_search import (
    Places,
    Program,
    check_kept,
    find_owner_environment,
    find_program,
    interpreter_of,
)
from kconnd.errors import StartFailedError

OWN = "in the environment of the kernel spec"
DATA = "/home/u/.local/share/jupyter/kernels/x"
IPYKERNEL = ("-m", "ipykernel_launcher", "-f", "{connection_file}")


@dataclass(frozen=True)
class FakeFiles:
    """Files with their beginnings; a path in ``plain`` has no x bit."""

    programs: Mapping[str, str] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    plain: frozenset[str] = frozenset()

    def is_executable(self, path: str) -> bool:
        return self.resolve(path) in self.programs

    def exists(self, path: str) -> bool:
        return self.is_executable(path) or path in self.plain

    def resolve(self, path: str) -> str:
        for link, target in self.links.items():
            if path == link or path.startswith(f"{link}/"):
                return target + path.removeprefix(link)
        return path

    def read_head(self, path: str) -> str:
        return self.programs.get(self.resolve(path), "")


def files(*programs: str, **scripts: str) -> FakeFiles:
    """Build files: programs without a text, and the first lines of ``jupyter`` scripts by name."""
    return FakeFiles({**dict.fromkeys(programs, "\x7fELF"), **scripts})


def spec(word: str, *rest: str, folder: str = DATA) -> KernelSpec:
    return KernelSpec("x", (word, *(rest or IPYKERNEL)), resource_dir=folder)


def jupyter(script: str, first_line: str, *programs: str) -> FakeFiles:
    return FakeFiles({script: f"{first_line}\n", **dict.fromkeys(programs, "")})


OWNER = Places(owner_path="/home/u/venv/bin:/usr/bin")


# --- an interpreter


@pytest.mark.parametrize("word", ["python", "python3", "python3.11"])
def test_an_interpreter_is_first_that_of_the_specs_environment(word: str) -> None:
    places = replace(OWNER, environment="/env", prefix="/env", client_prefix="/client")
    every = files(f"/env/bin/{word}", f"/client/bin/{word}", f"/usr/bin/{word}")
    program = find_program(spec(word), places, every)
    assert program == Program(word, f"/env/bin/{word}", OWN, DATA)


def test_python_is_python3_in_an_environment_without_python() -> None:
    places = replace(OWNER, environment="/usr")
    assert (
        find_program(spec("python"), places, files("/usr/bin/python3")).path == "/usr/bin/python3"
    )
    with pytest.raises(StartFailedError, match=r"/usr/bin \(the environment of the kernel spec\)"):
        find_program(spec("python3"), places, files("/usr/bin/python"))


def test_the_client_of_the_owner_precedes_jupyter_on_path() -> None:
    both = jupyter("/usr/bin/jupyter", "#!/usr/bin/python3", "/usr/bin/python3", "/c/bin/python3")
    program = find_program(spec("python3"), replace(OWNER, client_prefix="/c"), both)
    assert program.path == "/c/bin/python3"
    assert program.origin == "in the environment of kconnd-ctl, which asked for it"
    program = find_program(spec("python3"), OWNER, both)
    assert program.path == "/usr/bin/python3"
    assert program.origin == "it runs /usr/bin/jupyter, the first on the PATH of the owner"


def test_an_interpreter_on_path_is_never_run() -> None:
    with pytest.raises(StartFailedError) as caught:
        find_program(spec("python3"), OWNER, files("/usr/bin/python3", "/home/u/venv/bin/python3"))
    assert "jupyter on the PATH of the owner (/home/u/venv/bin:/usr/bin)" in caught.value.message
    assert "the line python: PATH," in caught.value.hint


def test_the_line_to_write_runs_the_module_of_the_kernel_spec() -> None:
    with pytest.raises(StartFailedError) as caught:
        find_program(spec("python", "-m", "bash_kernel", "-f", "{connection_file}"), OWNER, files())
    assert 'argv: [PATH, -m, bash_kernel, -f, "{connection_file}"]' in caught.value.hint


def test_jupyter_of_the_service_is_not_that_of_the_owner() -> None:
    service = replace(OWNER, owner_path="/usr/local/bin:/usr/bin", service_prefix="/opt/kconnd")
    scripts = {"/opt/kconnd/bin/jupyter": "#!/opt/kconnd/bin/python\n"}
    links = {"/usr/local/bin/jupyter": "/opt/kconnd/bin/jupyter", "/opt/link": "/opt/kconnd"}
    own = FakeFiles({**scripts, "/opt/kconnd/bin/python": ""}, links)
    with pytest.raises(StartFailedError, match=r"/usr/local/bin/jupyter \(it belongs to the serv"):
        find_program(spec("python"), service, own)
    mine = {"/usr/bin/jupyter": "#!/usr/bin/python3\n", "/usr/bin/python3": ""}
    both = replace(own, programs={**own.programs, **mine})
    assert find_program(spec("python"), service, both).path == "/usr/bin/python3"
    linked = replace(own, programs={**own.programs, "/usr/bin/jupyter": "#!/opt/link/bin/python\n"})
    with pytest.raises(StartFailedError, match=r"/usr/bin/jupyter \(it belongs to the service"):
        find_program(spec("python"), service, linked)


@pytest.mark.parametrize(
    ("first_line", "reason"),
    [
        ("#!/gone/bin/python", "/gone/bin/python does not exist"),
        ("#!/bin/bash", "its Python is not known"),
        ("\x7fELF", "its Python is not known"),
    ],
)
def test_an_unclear_jupyter_is_not_passed_over(first_line: str, reason: str) -> None:
    first, second = "/home/u/venv/bin/jupyter", "/usr/bin/jupyter"
    scripts = {first: f"{first_line}\n", second: "#!/usr/bin/python3\n", "/usr/bin/python3": ""}
    with pytest.raises(StartFailedError) as caught:
        find_program(spec("python3"), OWNER, FakeFiles(scripts))
    assert f"{first} ({reason})" in caught.value.message


def test_a_version_that_jupyter_does_not_have_is_a_program_on_path() -> None:
    places = replace(OWNER, kernel_path="/usr/bin")
    known = jupyter("/usr/bin/jupyter", "#!/v/bin/python3", "/v/bin/python3", "/v/bin/python3.11")
    assert find_program(spec("python3.11"), places, known).path == "/v/bin/python3.11"
    every = replace(known, programs={**known.programs, "/usr/bin/python3.13": ""})
    program = find_program(spec("python3.13"), places, every)
    assert (program.path, program.on_path) == ("/usr/bin/python3.13", True)
    client = replace(places, client_prefix="/c", owner_path="")
    assert find_program(spec("python3.13"), client, every).path == "/usr/bin/python3.13"
    with pytest.raises(StartFailedError, match="it could be any interpreter"):
        find_program(spec("python3.13"), replace(places, owner_path=""), every)


def test_lines_of_setup_choose_the_interpreter_that_the_spec_leaves_open() -> None:
    places = replace(OWNER, by_shell=True, after_setup=True, environment="/env")
    every = jupyter("/usr/bin/jupyter", "#!/usr/bin/python3", "/usr/bin/python3")
    program = find_program(spec("python3"), places, every)
    assert (program.path, program.origin) == (
        "python3",
        "looked for by the login shell, after 'setup'",
    )
    own = replace(every, programs={**every.programs, "/env/bin/python3": ""})
    assert find_program(spec("python3"), places, own).path == "/env/bin/python3"
    without = replace(places, after_setup=False)
    assert find_program(spec("python3"), without, every).path == "/usr/bin/python3"


@pytest.mark.parametrize(
    ("head", "interpreter"),
    [
        ("#!/v/bin/python\nimport sys", "/v/bin/python"),
        ("#! /v/bin/python3.11 -sE\n", "/v/bin/python3.11"),
        ("#!/usr/bin/env python3\n", "/usr/bin/python3"),
        ("#!/usr/bin/env -S python3 -I\n", "/usr/bin/python3"),
        ("#!/usr/bin/env python9\n", ""),
        ("#!/bin/sh\n'''exec' \"/a b/bin/python\" \"$0\" \"$@\"\n' '''\n", "/a b/bin/python"),
        ("#!/bin/sh\n'''exec' /long/bin/python3 \"$0\" \"$@\"\n' '''\n", "/long/bin/python3"),
        (
            '#!/bin/sh\n\'\'\'exec\' "$(dirname -- "$(realpath -- "$0")")"/\'python3\' "$0" "$@"\n',
            "/tool/bin/python3",
        ),
        ("#!/bin/sh\n'''exec' \"/unclosed\n", ""),
        ("#!/bin/bash\nexec pyenv exec jupyter\n", ""),
        ("#!\n", ""),
        ("", ""),
    ],
)
def test_the_interpreter_of_an_installed_script(head: str, interpreter: str) -> None:
    scripts = FakeFiles(
        {"/tool/bin/jupyter": head, "/usr/bin/python3": ""},
        {"/home/u/.local/bin/jupyter": "/tool/bin/jupyter"},
    )
    assert interpreter_of("/home/u/.local/bin/jupyter", "/usr/bin", scripts) == interpreter


@pytest.mark.parametrize("mark", ["pyvenv.cfg", "conda-meta"])
def test_a_wrapper_in_an_environment_runs_the_interpreter_beside_it(mark: str) -> None:
    wrapper = FakeFiles({"/v/bin/jupyter": "#!/bin/sh\n"}, plain=frozenset({f"/v/{mark}"}))
    assert interpreter_of("/v/bin/jupyter", "", wrapper) == "/v/bin/python"


@given(st.text(max_size=50), st.text(max_size=20))
def test_any_script_can_be_read(head: str, search_path: str) -> None:
    assert isinstance(
        interpreter_of("/b/jupyter", search_path, FakeFiles({"/b/jupyter": head})), str
    )


@given(st.text(max_size=50), st.sets(st.sampled_from(["/c", "/v", "/usr", "/opt/k"])))
def test_the_interpreter_of_the_service_is_never_run(head: str, have: set[str]) -> None:
    programs = {f"{prefix}/bin/{name}": "" for prefix in have for name in ("python", "python3")}
    scripts = {"/usr/bin/jupyter": head, "/opt/k/bin/jupyter": "#!/opt/k/bin/python\n"}
    places = Places(owner_path="/opt/k/bin:/usr/bin", service_prefix="/opt/k")
    try:
        program = find_program(spec("python"), places, FakeFiles({**programs, **scripts}))
    except StartFailedError:
        return
    assert not program.path.startswith("/opt/k/")


def test_the_environment_of_the_owners_jupyter() -> None:
    known = jupyter("/usr/bin/jupyter", "#!/v/bin/python3", "/v/bin/python3")
    assert find_owner_environment(OWNER, known) == "/v"
    assert find_owner_environment(replace(OWNER, client_prefix="/c"), known) == "/c"
    assert find_owner_environment(OWNER, files()) == ""


# --- any other program


def on(*folders: str) -> Places:
    """Build the places of a kernel with its owner's ``PATH``."""
    path = ":".join(folders)
    return Places(prefix="/env", cwd="/project", owner_path=path, kernel_path=path)


def test_a_program_is_that_of_the_specs_environment_then_the_first_on_path() -> None:
    places = on("/a", "/b")
    assert find_program(spec("R"), places, files("/a/R", "/env/bin/R")).path == "/env/bin/R"
    program = find_program(spec("R"), places, files("/a/R", "/b/R"))
    assert program == Program("R", "/a/R", "on its PATH", DATA, on_path=True)
    assert find_program(spec("R"), places, files("/b/R")).path == "/b/R"


def test_folders_that_the_spec_puts_first_precede_its_environment() -> None:
    places = replace(on("/usr/bin"), kernel_path="/opt/x:/usr/bin")
    assert find_program(spec("R"), places, files("/opt/x/R", "/env/bin/R")).path == "/opt/x/R"
    assert find_program(spec("R"), places, files("/usr/bin/R", "/env/bin/R")).origin == OWN


def test_programs_of_the_system_precede_those_of_the_owner_for_a_spec_of_the_system() -> None:
    places = replace(on("/home/u/bin", "/usr/bin"), prefix="/usr")
    every = files("/home/u/bin/R", "/usr/bin/R")
    assert find_program(spec("R"), places, every) == Program("R", "/usr/bin/R", OWN, DATA)


def test_a_fixed_path_without_the_program_leaves_that_of_the_environment() -> None:
    places = replace(on("/usr/bin"), kernel_path="/a")
    assert find_program(spec("R"), places, files("/env/bin/R")).path == "/env/bin/R"


def test_a_relative_folder_of_path_is_below_the_working_directory() -> None:
    assert find_program(spec("R"), on("bin"), files("/project/bin/R")).path == "/project/bin/R"
    assert find_program(spec("R"), on(""), files("/project/R")).path == "/project/R"


def test_a_file_without_x_bit_is_passed_over_and_else_named() -> None:
    plain = FakeFiles({"/b/R": ""}, plain=frozenset({"/a/R"}))
    assert find_program(spec("R"), on("/a", "/b"), plain).path == "/b/R"
    assert find_program(spec("R"), on("/a", "/c"), plain).path == "/a/R"


def test_a_missing_program_names_each_folder_once() -> None:
    with pytest.raises(StartFailedError) as caught:
        find_program(spec("R"), on("/a", "/b", "/a", "/env/bin"), files())
    assert caught.value.message.endswith("no such program; searched: /env/bin, /a, /b")


def test_a_login_shell_finds_the_program() -> None:
    places = replace(on("/a"), by_shell=True)
    program = find_program(spec("R"), places, files("/a/R"))
    assert (program.path, program.origin) == ("R", "looked for by the login shell")
    assert find_program(spec("R"), places, files("/env/bin/R")).path == "/env/bin/R"


def test_a_path_stays_as_it_is() -> None:
    program = find_program(spec("/x/python"), OWNER, files())
    assert (program.path, program.origin) == ("/x/python", "named by the kernel spec")
    profile = replace(OWNER, named_by="the profile")
    assert find_program(spec("/a"), profile, files()).origin == "named by the profile"


def test_a_relative_path_is_below_the_working_directory() -> None:
    places = replace(OWNER, cwd="/project")
    assert find_program(spec("bin/k"), places, files("/project/bin/k")).path == "bin/k"
    with pytest.raises(
        StartFailedError, match=r"program ./k: /project/./k does not exist"
    ) as caught:
        find_program(spec("./k"), places, files(f"{DATA}/./k"))
    assert "write {resource_dir}/k in argv of this file" in caught.value.hint
    with pytest.raises(StartFailedError) as caught:
        find_program(spec("./k"), places, files())
    assert f"beginning with /, in argv of {DATA}/kernel.json" in caught.value.hint
    assert find_program(spec("./k"), replace(places, by_shell=True), files()).path == "./k"


def test_python_in_a_profile_is_a_program_on_path() -> None:
    places = replace(on("/a"), prefix="")
    assert (
        find_program(spec("python3", folder=""), places, files("/a/python3")).path == "/a/python3"
    )


# --- a restart


def test_a_restart_runs_the_program_of_the_start_or_names_it() -> None:
    kept = Program("R", "/a/R", "on its PATH", DATA, on_path=True)
    assert check_kept(kept, files("/a/R")) == replace(kept, on_path=False)
    with pytest.raises(StartFailedError, match="/a/R, with which the kernel was started, does not"):
        check_kept(kept, files("/b/R"))
    with pytest.raises(StartFailedError, match="cannot be executed"):
        check_kept(kept, FakeFiles(plain=frozenset({"/a/R"})))
