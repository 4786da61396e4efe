"""Profiles from real files: places of faults, what a fault leaves alone, and hostile files."""

import os
import pwd
import sys
from pathlib import Path
from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from kconnd.core.profile.schema import profile_schema
from kconnd.system.hung_calls import StuckError
from kconnd.system.profiles.loader import LoadedProfiles, load_profiles
from kconnd.system.profiles.settings_file import read_settings
from kconnd.system.profiles.tiers import load_tiers
from kconnd.system.profiles.yaml_with_positions import NotYamlError, read_yaml

ROOT = Path(__file__).parents[3]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tmp_path.chmod(0o755)
    return tmp_path


def write(folder: Path, name: str, text: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else dedent(text).encode())
    path.chmod(0o644)
    return path


def told(loaded: LoadedProfiles, folder: Path) -> list[str]:
    """Give the faults as text, without the folder."""
    return [str(fault).removeprefix(f"{folder}/") for fault in loaded.faults]


def faults_of(folder: Path, text: str | bytes, name: str = "lab.yaml") -> list[str]:
    write(folder, name, text)
    return told(load_profiles([folder]), folder)


def test_the_shipped_profiles_have_no_faults_and_only_the_main_one_starts_at_boot() -> None:
    loaded = load_profiles([ROOT / "configs"])
    assert loaded.faults == ()
    at_boot = [name for name, found in loaded.profiles.items() if found.profile.start == "boot"]
    assert at_boot == ["mykernel"]
    assert loaded.profiles["hpc"].profile.startup_timeout == 300


def test_an_editor_with_the_schema_finds_no_fault_in_them_either() -> None:
    schema = Draft202012Validator(profile_schema())
    for path in (ROOT / "configs").glob("*.yaml"):
        assert schema.is_valid(read_yaml(path.read_bytes()).data), path


def test_a_file_is_a_profile_with_the_file_s_name(folder: Path) -> None:
    path = write(folder, "lab.yaml", "# mine\nkernel: python3\n")
    found = load_profiles([folder]).profiles["lab"]
    assert (found.profile.kernel, found.file, found.line) == ("python3", str(path), 2)


def test_a_file_can_hold_several_kernels(folder: Path) -> None:
    path = write(folder, "lab.yml", "kernels:\n  a:\n    kernel: x\n  b: {name: b, kernel: y}\n")
    loaded = load_profiles([path])
    assert {name: found.line for name, found in loaded.profiles.items()} == {"a": 2, "b": 4}
    assert loaded.faults == ()


def test_the_faults_that_the_documentation_shows(folder: Path) -> None:
    text = """\
    kernel: python3

    env:
      A: b

    restart:
      policy:  sometimes
    limits:
      memmory: 2G
    """
    assert faults_of(folder, text) == [
        "lab.yaml:7:12: restart.policy: 'sometimes' is not one of no, on-failure, always",
        "lab.yaml:9:3: limits.memmory: unknown key; did you mean 'memory'?",
    ]


def test_every_fault_of_every_file_is_told_in_one_run(folder: Path) -> None:
    write(folder, "a.yaml", "kernel: python3\nwarm: many\nshel: login\nsetup: ls\n")
    write(folder, "b.yaml", "kernel: [\n")
    write(folder, "c.yaml", "kernel: python3\n")
    write(folder, "d.yaml", "kernels:\n  x: {kernel: 5}\n  y: {kernel: bash}\n  z:\n  w: 3\n")
    loaded = load_profiles([folder])
    assert sorted(loaded.profiles) == ["c", "y"]
    assert told(loaded, folder) == [
        "a.yaml:2:7: warm: 'many' is not a whole number",
        "a.yaml:3:1: shel: unknown key; did you mean 'shell'?",
        (
            "b.yaml:2:1: not YAML: while parsing a flow node, "
            "expected the node content, but found '<stream end>'"
        ),
        "d.yaml:2:15: kernels.x.kernel: 5 is not text; put it in quotes",
        "d.yaml:4:5: kernels.z: nothing is not a profile; give it keys",
        "d.yaml:5:6: kernels.w: 3 is not a profile; give it keys",
    ]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "1:1: the file is empty; write kernel: python3, or remove it"),
        ("# nothing yet\n", "1:1: the file is empty"),
        ("---\n", "2:1: the file is empty"),
        ("~", "1:1: the file is empty"),
        ("python3", "1:1: 'python3' is not a mapping"),
        ("[a]", "1:1: a list is not a mapping"),
        ("kernels:", "1:9: kernels: needs a mapping of kernels by name"),
        ("kernels: [a]", "1:10: kernels: needs a mapping of kernels by name"),
        ("kernels: {}", "1:10: kernels: needs a mapping of kernels by name"),
        ("kernels:\n  a b:\n    kernel: x\n", "2:3: kernels.a b: 'a b' is not a name for a kernel"),
        ("kernels:\n  a:\n    kernel: x\n    name: b", "4:11: kernels.a.name: 'b' is not the key"),
        ("kernel: a\n---\nkernel: b", "2:1: a second document begins; put several kernels under"),
        ("kernel: a\nkernel: b", "2:1: kernel: is given twice, first at line 1, column 1"),
        ("restart: {policy: no,\n policy: no}\nkernel: a", "2:2: restart.policy: is given twice"),
        ("kernel: a\n\tcwd: /b", "not YAML: while scanning"),
        ("kernel: *a", "1:9: not YAML: found undefined alias 'a'"),
        ("kernel: a\nenv: {A: no}", "2:10: env.A: false is a truth value in YAML"),
        ("kernel: a\nenv: {KCONND_KERNEL: x}", "2:7: env.KCONND_KERNEL: 'KCONND_KERNEL' is set"),
        ('kernel: a\nenv: {"[key]": no}', "2:16: env.[key]: false is a truth value in YAML"),
        ("kernel: a\nidle:", "2:6: idle: has no value"),
        ("kernel: !!python/name:os.system ''", "means nothing here"),
        ("!kernel {kernel: a}", "1:1: the tag '!kernel' means nothing here"),
        ("kernel: a\n? [b]\n: c", "2:3: a key has to be text"),
        ('kernel: a\ncwd: "/\\ud800"', "2:6: cwd: holds a character that is not text"),
        ("kernel: a\n<<: 5", "2:5: << takes mappings"),
        (b"kernel: a\ncwd: /\xe9", "2:7: byte 0xe9 is not UTF-8; save the file as UTF-8"),
        (b"kernel: a\0", "1:10: character U+0000 is not allowed in YAML"),
        (b"\xff\xfek\0", "1:1: byte 0xff is not UTF-8"),
        ("argv: [a, -f, {connection_file}]", "1:15: argv[2]: a mapping is not text; text with"),
        ("cwd: /a", "1:1: no key says what to run; give one of kernel, python or argv"),
        ("kernel: a\nports: 5", "2:8: ports: 5 is not a choice of ports; write auto, a range"),
    ],
)
def test_a_faulty_file_is_told_once_with_its_place(
    folder: Path, text: str | bytes, fault: str
) -> None:
    (line,) = faults_of(folder, text)
    assert line.startswith("lab.yaml:")
    assert fault in line
    assert load_profiles([folder]).profiles == {}


def test_a_fault_names_the_profile_that_is_left_out_for_it(folder: Path) -> None:
    write(folder, "a.yaml", "kernels:\n  x: {kernel: 5}\n  y: {kernel: k, kernel: k}\nz: 1\n")
    write(folder, "b.yaml", "kernel: 5\n")
    write(folder, "c.yaml", "kernel: 5\nname: d\n")
    write(folder, "e.yaml", "[")
    faults = load_profiles([folder]).faults
    assert [fault.profile for fault in faults] == ["x", "y", "", "b", "d", ""]


def test_other_keys_beside_kernels_are_told_and_the_kernels_work(folder: Path) -> None:
    write(folder, "lab.yaml", "env: {}\nkernels:\n  a: {kernel: x}\n")
    loaded = load_profiles([folder])
    assert list(loaded.profiles) == ["a"]
    assert told(loaded, folder) == [
        "lab.yaml:1:1: env: cannot stand beside kernels; move it to a kernel's own keys"
    ]


def test_a_kernel_given_twice_in_a_file_leaves_the_first(folder: Path) -> None:
    write(folder, "lab.yaml", "kernels:\n  a: {kernel: x}\n  a: {kernel: y}\n")
    loaded = load_profiles([folder])
    assert loaded.profiles["a"].profile.kernel == "x"
    assert told(loaded, folder) == [
        "lab.yaml:3:3: kernels.a: is given twice, first at line 2, column 3"
    ]


def test_the_later_of_two_files_with_a_name_is_at_fault(folder: Path) -> None:
    write(folder, "a.yaml", "kernel: x\nname: lab\n")
    write(folder, "b.yaml", "kernels:\n  lab: {kernel: y}\n")
    write(folder, "lab.yaml", "kernel: z\n")
    loaded = load_profiles([folder])
    assert loaded.profiles["lab"].profile.kernel == "x"
    first = folder / "a.yaml"
    assert told(loaded, folder) == [
        (
            f"b.yaml:2:3: kernels.lab: the name 'lab' is taken by {first}:1; "
            "give one of them another name"
        ),
        f"lab.yaml:1:1: the name 'lab' is taken by {first}:1; give one of them another name",
    ]


def test_a_name_is_taken_by_a_faulty_profile_too(folder: Path) -> None:
    write(folder, "a.yaml", "kernel: 5\nname: lab\n")
    write(folder, "lab.yaml", "kernel: z\n")
    loaded = load_profiles([folder])
    assert loaded.profiles == {}
    assert len(loaded.faults) == 2


def test_fixed_ports_that_overlap_are_a_fault_of_the_later(folder: Path) -> None:
    write(folder, "a.yaml", "kernel: x\nports: [5001, 5002, 5003, 5004, 5005]\n")
    write(folder, "b.yaml", "kernel: x\nports: [5005, 5006, 5007, 5008, 5004]\n")
    loaded = load_profiles([folder])
    assert list(loaded.profiles) == ["a"]
    assert told(loaded, folder) == [
        (
            f"b.yaml:2:8: ports: 5004, 5005: fixed for a too ({folder}/a.yaml:1); "
            "choose others, or a range for both"
        )
    ]


def test_names_and_numbers_in_env_are_taken_as_they_are_written(folder: Path) -> None:
    text = "kernel: x\nenv: {NO: 3.10, on: 007, 5: 1e3, D: 2024-01-01, T: 1:30, H: 0x10}\n"
    write(folder, "lab.yaml", text)
    loaded = load_profiles([folder])
    assert loaded.faults == ()
    assert loaded.profiles["lab"].profile.env == {
        "NO": "3.10",
        "on": "007",
        "5": "1e3",
        "D": "2024-01-01",
        "T": "1:30",
        "H": "0x10",
    }


def test_anchors_and_merges_work_and_own_keys_win(folder: Path) -> None:
    text = """\
    kernels:
      a: &a
        kernel: x
        cwd: /a
        env: &env {A: "1", B: "2"}
      b:
        cwd: /b
        <<: *a
        env: {B: "3", <<: [*env]}
    """
    assert faults_of(folder, text) == []
    profile = load_profiles([folder]).profiles["b"].profile
    assert (profile.kernel, profile.cwd, profile.env) == ("x", "/b", {"A": "1", "B": "3"})


LISTS = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40))
MERGES = "a0: &a0 {x: 1}\n" + "".join(
    f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}]}}\n" for i in range(1, 40)
)


EMPTY = MERGES.replace("x: 1", "")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (EMPTY, "more than 10000 values"),
        (LISTS, "more than 10000 values"),
        (MERGES, "more than 10000 values"),
        ("&a [*a]", "nested more than 30 deep"),
        ("&a {b: *a}", "nested more than 30 deep"),
        ("&a {<<: *a}", "nested more than 30 deep"),
        ("[" * 500_000, "nested more than 30 deep"),
        ("- " * 500_000, "nested more than 30 deep"),
        ("- a\n" * 200_000, "more than 10000 values"),
        ("a: " + "9" * 5000 + "\nb: [", "not YAML"),
    ],
    ids=lambda value: value[:12],
)
@pytest.mark.timeout(20)
def test_a_bomb_does_not_go_off(text: str, message: str) -> None:
    with pytest.raises(NotYamlError, match=message):
        read_yaml(text.encode())


def test_the_first_of_several_merged_mappings_wins() -> None:
    document = read_yaml(b"a: &a {x: 1}\nb: &b {x: 2, y: 2}\nc: {<<: [*a, *b]}\n")
    assert document.data == {"a": {"x": 1}, "b": {"x": 2, "y": 2}, "c": {"x": 1, "y": 2}}


def test_a_number_too_long_to_print_is_text() -> None:
    assert read_yaml(b"0x" + b"f" * 9000).data == "0x" + "f" * 9000


@given(st.binary(max_size=60) | st.text(alphabet="ab:-[]{}&*!?|>'\"#%@`,\n\t <0", max_size=40))
def test_any_bytes_are_a_document_or_not_yaml(content: bytes | str) -> None:
    try:
        document = read_yaml(content if isinstance(content, bytes) else content.encode())
    except NotYamlError as err:
        lines = [err.line, err.column]
    else:
        lines = [position.line for position in document.positions.values()]
    assert all(line >= 1 for line in lines)


def test_a_large_file_is_refused(folder: Path) -> None:
    (line,) = faults_of(folder, "kernel: a\n" + "#" * (1 << 20))
    assert line == "lab.yaml:1:1: the file is larger than 1M; split it into several files"


def test_which_files_of_a_folder_are_read(folder: Path) -> None:
    for name in ("b.yaml", "a.yml", ".hidden.yaml", "c.yaml~", "d.json", "e.YAML"):
        write(folder, name, "kernel: x\n")
    assert list(load_profiles([folder]).profiles) == ["a", "b"]


def test_a_file_reached_twice_is_read_once(folder: Path) -> None:
    path = write(folder, "lab.yaml", "kernel: x\n")
    loaded = load_profiles([folder, path, f"{folder}/../{folder.name}/lab.yaml"])
    assert loaded.faults == ()
    assert list(loaded.profiles) == ["lab"]


def test_what_does_not_exist_is_nothing_or_a_fault(folder: Path) -> None:
    missing = folder / "none"
    assert load_profiles([missing, folder / "a.yaml"]) == LoadedProfiles({}, ())
    (fault,) = load_profiles([missing], missing_ok=False).faults
    assert str(fault) == f"{missing}:1:1: there is no such file or folder"


def test_a_link_takes_its_own_name(folder: Path) -> None:
    real = write(folder, "real.txt", "kernel: x\n")
    (folder / "lab.yaml").symlink_to(real)
    assert list(load_profiles([folder]).profiles) == ["lab"]


def test_links_to_nowhere_pipes_and_folders_are_faults_and_do_not_block(folder: Path) -> None:
    (folder / "a.yaml").symlink_to(folder / "a.yaml")
    os.mkfifo(folder / "b.yaml")
    (folder / "c.yaml").mkdir()
    write(folder, "d.yaml", "kernel: x\n")
    loaded = load_profiles([folder])
    assert list(loaded.profiles) == ["d"]
    first, *others = told(loaded, folder)
    assert first.startswith("a.yaml:1:1: cannot be read: ")
    assert others == [
        "b.yaml:1:1: it is not a regular file",
        "c.yaml:1:1: it is not a regular file",
    ]


def test_a_file_that_cannot_be_read_is_a_fault(folder: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root reads everything")
    write(folder, "lab.yaml", "kernel: x\n").chmod(0)
    (line,) = told(load_profiles([folder]), folder)
    assert line == "lab.yaml:1:1: cannot be read: Permission denied"


@pytest.mark.parametrize("mode", [0o666, 0o602])
def test_a_file_that_everybody_writes_is_not_read(folder: Path, mode: int) -> None:
    write(folder, "lab.yaml", "kernel: x\n").chmod(mode)
    loaded = load_profiles([folder])
    assert loaded.profiles == {}
    assert told(loaded, folder) == [
        "lab.yaml:1:1: all users may write to the file; chmod o-w on the file"
    ]


def test_a_folder_that_everybody_writes_is_not_read_unless_sticky(folder: Path) -> None:
    path = write(folder, "lab.yaml", "kernel: x\n")
    user = os.geteuid() or 1000  # for whom root's files are as good as their own
    folder.chmod(0o777)
    for asked in (folder, path):
        loaded = load_profiles([asked], uid=user)
        assert loaded.profiles == {}
        assert "all users may write to the folder" in str(loaded.faults[0])
    folder.chmod(0o1777)
    assert list(load_profiles([folder], uid=user).profiles) == ["lab"]


@pytest.mark.root
@pytest.mark.parametrize(
    ("owner", "group", "mode", "why"),
    [
        (0, 0, 0o1777, "all users may write to the folder"),
        (0, 54321, 0o775, "group 54321 may write to the folder, and root is reading"),
        (0, 54321, 0o1775, "group 54321 may write to the folder, and root is reading"),
        (54321, 0, 0o755, "the folder belongs to uid 54321, and uid 0 is reading"),
        (54321, 0, 0o1755, "the folder belongs to uid 54321, and uid 0 is reading"),
        (0, 0, 0o775, ""),
    ],
)
def test_what_root_reads_is_in_a_folder_of_roots_alone(
    folder: Path, owner: int, group: int, mode: int, why: str
) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to give a folder away")
    inner = folder / "configs"
    inner.mkdir()
    write(inner, "lab.yaml", "kernel: x\n")
    write(inner, "kconnd.yaml", "users: [ada]\n")
    os.chown(inner, owner, group)
    inner.chmod(mode)
    loaded = load_profiles([inner / "lab.yaml"])
    settings, faults = read_settings(str(inner / "kconnd.yaml"))
    assert [why in str(fault) for fault in (*loaded.faults, *faults)] == ([True] * 2 if why else [])
    assert (list(loaded.profiles), settings is None) == ([] if why else ["lab"], bool(why))


def test_another_user_s_file_is_not_read_and_root_s_is(folder: Path) -> None:
    path = write(folder, "lab.yaml", "kernel: x\n")
    owner, reader = path.stat().st_uid, os.geteuid() + 12345
    loaded = load_profiles([folder], uid=reader)
    if owner == 0:
        assert list(loaded.profiles) == ["lab"]
        os.chown(path, 54321, 0)
        owner, loaded = 54321, load_profiles([folder], uid=reader)
    assert told(loaded, folder) == [
        (
            f"lab.yaml:1:1: the file belongs to uid {owner}, and uid {reader} is reading; "
            "a profile must belong to its reader or to root"
        )
    ]


@pytest.mark.root
def test_root_reads_no_file_that_another_group_writes(folder: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to give a file away")
    path = write(folder, "lab.yaml", "kernel: x\n")
    os.chown(path, 0, 54321)
    path.chmod(0o664)
    (line,) = told(load_profiles([folder]), folder)
    assert line.startswith("lab.yaml:1:1: group 54321 may write to the file, and root is reading")
    assert list(load_profiles([folder], uid=1000).profiles) == ["lab"]
    os.chown(path, 0, 0)
    assert list(load_profiles([folder]).profiles) == ["lab"]


def test_root_shares_no_kernel_under_any_of_its_names(folder: Path) -> None:
    write(folder, "lab.yaml", "kernel: x\nuser: toor\n")
    write(folder, "ours.yaml", "kernel: x\nuser: ada\n")
    loaded = load_profiles([folder], uid_of={"toor": 0, "ada": 1000}.get)
    assert list(loaded.profiles) == ["ours"]
    (line,) = told(loaded, folder)
    assert line.startswith("lab.yaml:1:1: user: 'toor' is root, whose kernels are not shared")


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: to write a profile of the machine")
def test_a_profile_of_the_machine_opens_nobodys_own_kernel_to_others(folder: Path) -> None:
    """A user's own profile may, since it is their own word."""
    folder.chmod(0o755)
    write(folder, "lab.yaml", "kernel: x\naccess: {connect: [eve]}\n").chmod(0o644)
    write(folder, "shared.yaml", "kernel: x\nuser: ada\naccess: {connect: [eve]}\n")
    loaded = load_tiers([folder], [], uid=1000, user="ada")
    assert list(loaded.profiles) == ["shared"]
    (line,) = told(loaded, folder)
    assert line.startswith("lab.yaml:1:1: access: it would open every user's own kernel")
    assert "lab" in load_tiers([], [folder], uid=0, user="root").profiles


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: to write a profile of the machine")
def test_the_machines_profiles_that_a_user_may_see_are_named(folder: Path) -> None:
    folder.chmod(0o755)
    for name, access in (("a", "see: [daemon]"), ("b", "connect: ['@daemon']"), ("c", "see: [x]")):
        text = f"kernel: x\nuser: nobody\naccess: {{{access}}}\n"
        write(folder, f"{name}.yaml", text).chmod(0o644)
    write(folder, "d.yaml", "kernel: x\nuser: nobody\n").chmod(0o644)
    uid = pwd.getpwnam("daemon").pw_uid

    def begin(what: str) -> None:
        if "groups" in what:
            raise StuckError(what)

    assert load_tiers([folder], [], uid=uid, user="daemon").shared == {"a": "nobody", "b": "nobody"}
    assert load_tiers([folder], [], uid=uid, user="daemon", begin=begin).shared == {}
    assert load_tiers([folder], [], uid=12345, user="eve").shared == {}


def test_a_key_cannot_send_escapes_to_a_terminal(folder: Path) -> None:
    (line,) = faults_of(folder, 'kernel: x\n"\\e[31m": 1\n')
    assert "\x1b" not in line


def test_reading_leaves_no_descriptor_open(folder: Path) -> None:
    write(folder, "a.yaml", "kernel: [\n")
    write(folder, "b.yaml", "kernel: x\n")
    if sys.platform != "linux":
        pytest.skip("/proc/self/fd is Linux's")
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208  # a count is all that is wanted
    load_profiles([folder, folder / "none"])
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208  # the same
