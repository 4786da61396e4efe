# ruff: noqa: E501  # faults are shown as the person sees them, in one line
"""Profiles from files: what is right, and every fault with its place and a way out."""

import json
import math
import os
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kconnd.core.profile import Profile, file_schema
from kconnd.core.units import format_duration, format_size, parse_duration, parse_size
from kconnd.system.profiles import Loaded, load_profiles

ROOT = Path(__file__).parent.parent.parent


def load(folder: Path, **files: str) -> Loaded:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    return load_profiles([folder])


def faults(folder: Path, text: str) -> list[str]:
    found = load(folder, lab=text).faults
    return [str(fault).removeprefix(f"{folder}/") for fault in found]


def test_defaults(tmp_path: Path) -> None:
    profile = load(tmp_path, lab="kernel: python3\n").profiles["lab"].profile
    assert (profile.name, profile.start, profile.transport) == ("lab", "on-demand", "auto")
    assert profile.restart.policy == "on-failure"
    assert math.isinf(profile.idle.stop_after)
    assert profile.log.max_size == 10 << 20
    assert profile.policy().stop_timeout == 10.0


def test_everything_that_can_be_said(tmp_path: Path) -> None:
    text = """
    kernels:
      one:
        argv: [/bin/x, '{connection_file}']
        env: {A: text, B: 7, C: '{instance}'}
        cwd: ~/work/{instance}
        shell: login
        setup: |
          module load a
          module load b
        ports: 20000-20999
        restart: {policy: no, backoff: 2, backoff_max: 1min 30s}
        startup_timeout: 1h
        idle: {stop_after: off}
        log: {max_size: 1.5M, keep: 0}
        limits: {memory: 2G}
        publish: no
      two:
        kernel: x
        ports: {shell: 1001, iopub: 1002, stdin: 1003, control: 1004, hb: 1005}
    """
    found = load(tmp_path, several=text)
    assert found.faults == ()
    one, two = (found.profiles[name].profile for name in ("one", "two"))
    assert one.setup == ("module load a", "module load b")
    assert one.env["B"] == "7"
    assert one.restart.policy == "no"
    assert (one.restart.backoff, one.restart.backoff_max) == (2.0, 90.0)
    assert (one.log.max_size, one.limits.memory) == (3 << 19, 2 << 30)
    assert one.ports.range == (20000, 20999)
    assert two.ports.fixed == (1001, 1002, 1003, 1004, 1005)
    assert one.instantiate("exp").cwd == "~/work/exp"
    assert one.instantiate("exp").env["C"] == "exp"
    assert Profile.model_validate(json.loads(one.model_dump_json())) == one
    assert Profile.model_validate(json.loads(two.model_dump_json())) == two


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kernel: x\nmemmory: 3", "lab.yaml:2:1: memmory: unknown key; did you mean 'limits.memory'?"),
        ("kernl: x", "lab.yaml:1:1: kernl: unknown key; did you mean 'kernel'?"),
        (
            "kernel: x\nrestart:\n  policy: sometimes",
            "lab.yaml:3:11: restart.policy: 'sometimes' is not one of no, on-failure, always",
        ),
        ("kernel: x\nstart: bot", "lab.yaml:2:8: start: 'bot' is not one of boot, on-demand, manual; did you mean 'boot'?"),
        ("kernel: x\nrestart: {polcy: no}", "lab.yaml:2:11: restart.polcy: unknown key; did you mean 'policy'?"),
        ("kernel: 3", "lab.yaml:1:9: kernel: 3 is not text; put it in quotes"),
        ("kernel: x\nwarm: -1", "lab.yaml:2:7: warm: -1 is less than 0"),
        ("kernel: x\nwarm: many", "lab.yaml:2:7: warm: 'many' is not a whole number"),
        ("kernel: x\ncwd: ~", "lab.yaml:2:6: cwd: it is empty (to YAML, ~ and null are nothing); give it a value; '~' in quotes"),
        ("kernel: x\ncwd: here", "lab.yaml:2:6: cwd: 'here' is neither absolute nor begins with ~"),
        ("kernel: x\ncwd: /{who}", "lab.yaml:2:6: cwd: {who} is not known here; {instance} is"),
        ("kernel: x\nenv: {A: yes}", "lab.yaml:2:6: env: A: YAML reads this as True; put it in quotes"),
        ("kernel: x\nenv: {A-B: 1}", "lab.yaml:2:6: env: 'A-B' is not a name for an environment variable"),
        ("kernel: x\nenv: {JPY_PARENT_PID: 1}", "lab.yaml:2:6: env: JPY_PARENT_PID is set by kconnd itself"),
        ("kernel: x\nip: localhost", "lab.yaml:2:5: ip: 'localhost' is not an IP address"),
        ("kernel: x\nstop_timeout: soon", "lab.yaml:2:15: stop_timeout: 'soon' is not a duration such as 30s, 5min, 1h 30min or infinity"),
        ("kernel: x\nlog: {max_size: big}", "lab.yaml:2:17: log.max_size: 'big' is not a size such as 500K, 10M or 2G"),
        ("kernel: x\nports: 10-12", "lab.yaml:2:8: ports: '10-12' is not a range of at least 5 ports up to 65535"),
        ("kernel: x\nports: [1, 2, 3, 4, 4]", "lab.yaml:2:8: ports: [1, 2, 3, 4, 4] is not five different ports from 1 to 65535"),
        ("kernel: x\nports: {shell: 1}", "lab.yaml:2:8: ports: it needs just the ports shell, iopub, stdin, control, hb"),
        ("kernel: x\nports: [1, 2, 3, 4, 5]\ntransport: ipc", "lab.yaml:1:1: ports are for tcp, and transport is ipc"),
        ("kernel: x\nsetup: [a]", "lab.yaml:1:1: setup needs a shell to run it: add 'shell: login'"),
        ("kernel: x\nargv: [a, '{connection_file}']", "lab.yaml:1:1: it needs one of kernel, python and argv; it has kernel and argv"),
        ("env: {A: b}", "lab.yaml:1:1: it needs one of kernel, python and argv; it has none of them"),
        ("argv: [a]", "lab.yaml:1:7: argv: no argument has {connection_file} in it, so it could not be found"),
        ("kernel: x\nkernel: y", "lab.yaml:2:1: 'kernel' stands here again; it was at 1:1; remove one of the two"),
        ("kernel: x\nrestart: {backoff: 2min}", "lab.yaml:2:10: restart: backoff is longer than backoff_max"),
        ("kernel: x\nenv: {A: {B: c}}", "lab.yaml:2:10: env.A: a mapping is not text; put it in quotes"),
        ("kernel: x\nname: a/b", "lab.yaml:2:7: name: 'a/b' is not a name; use letters, digits, dots, dashes and underscores, at most 40"),
        ("", "lab.yaml:1:1: it is empty; write keys such as 'kernel: python3', or 'kernels:' with several profiles"),
        ("- a", "lab.yaml:1:1: it is not a mapping; write keys such as 'kernel: python3', or 'kernels:' with several profiles"),
        ("kernels: [a]", "lab.yaml:1:10: kernels: it is not a mapping of names to profiles"),
        ("kernels: {a: b}", "lab.yaml:1:11: a: it is not a mapping; write keys such as 'kernel: ...'"),
        ("kernel: x\nenv: {a: b: c}", "lab.yaml:2:11: not YAML: while parsing a flow mapping expected ',' or '}', but got ':'; put a value that has ': ' in it in quotes"),
        ("kernel: x\n\tcwd: y", "lab.yaml:2:1: not YAML: while scanning for the next token found character '\\t' that cannot start any token; indent with spaces: YAML allows no tabs there"),
        ("kernel: x\n---\nkernel: y", "lab.yaml:2:1: not YAML: expected a single document in the stream but found another document; check the indentation, quotes and brackets of this line and the one before"),
        ("kernel: !!python/object:os.system x", "lab.yaml:1:9: not YAML: could not determine a constructor for the tag 'tag:yaml.org,2002:python/object:os.system'; check the indentation, quotes and brackets of this line and the one before"),
        ("1: x", "lab.yaml:1:1: the key 1 is not text; put it in quotes: '1'"),
    ],
)  # fmt: skip
def test_a_fault_says_where_what_and_a_way_out(tmp_path: Path, text: str, said: str) -> None:
    assert said in faults(tmp_path, text)


def test_all_faults_of_all_files_at_once_and_the_others_work(tmp_path: Path) -> None:
    found = load(
        tmp_path,
        a="kernels:\n  good: {kernel: x}\n  bad: {kernl: x, wram: 1, start: never, setup: [a]}\n",
        b="{",
        c="kernel: x",
    )
    assert sorted(found.profiles) == ["c", "good"]
    assert len(found.faults) == 5
    assert {fault.profile for fault in found.faults} == {"bad", ""}


def test_names_and_fixed_ports_belong_to_one(tmp_path: Path) -> None:
    ports = "kernel: x\nports: [{}, 2001, 2002, 2003, 2004]\n"
    found = load(
        tmp_path, a=ports.format(2000), b=ports.format(2009), c="kernels: {a: {kernel: x}}"
    )
    said = [str(fault).removeprefix(f"{tmp_path}/") for fault in found.faults]
    assert said[0].startswith("b.yaml:1:1: ports: 2001, 2002, 2003, 2004 belongs to a at")
    assert said[1].startswith("c.yaml:1:11: name: 'a' is already the name of a profile at")
    assert sorted(found.profiles) == ["a"]


def test_a_bomb_is_refused_at_once(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    assert "it unfolds into too many values" in faults(tmp_path, "\n".join(lines))[0]
    assert "too many values" in faults(tmp_path, "a: &a [*a]")[0]
    assert "nested too deeply" in faults(tmp_path, "[" * 100_000)[0]
    assert "special characters" in faults(tmp_path, "a: \x1f")[0]
    assert "month must be in" in faults(tmp_path, "kernel: 2001-99-01")[0]


def test_files_that_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"kernel: \xe9")
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "open.yaml").write_text("kernel: x")
    (tmp_path / "open.yaml").chmod(0o666)
    (tmp_path / "large.yaml").write_text("#" * (1 << 20) + "\nkernel: x")
    (tmp_path / ".hidden.yaml").write_text("{")
    (tmp_path / "notes.txt").write_text("{")
    os.mkfifo(tmp_path / "pipe.yaml")
    found = load_profiles([tmp_path])
    said = {Path(fault.place.file).name: fault.message for fault in found.faults}
    assert said["latin.yaml"] == "it is not UTF-8 text (byte 8)"
    assert said["folder.yaml"] == "it cannot be read: Is a directory"
    assert said["pipe.yaml"] == "it is not a regular file"
    assert said["open.yaml"].startswith("others can write it")
    assert said["large.yaml"] == "it is larger than 1048576 bytes"
    assert len(said) == 5
    assert load_profiles([tmp_path / "none"]) == Loaded({}, ())


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: to make another user's file")
def test_a_profile_of_another_user_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "lab.yaml").write_text("kernel: x")
    os.chown(tmp_path / "lab.yaml", 65534, 65534)
    assert load_profiles([tmp_path]).faults[0].message.startswith("others can write it (uid 65534")


@given(text=st.text(max_size=200))
def test_no_text_makes_it_fail(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("any") / "lab.yaml"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    found = load_profiles([path])
    assert found.faults or found.profiles


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just("30s"),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


@given(content=st.dictionaries(st.sampled_from(sorted(Profile.model_fields)), VALUES, max_size=6))
def test_no_value_makes_it_fail(
    content: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("any") / "lab.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    found = load_profiles([path])
    assert found.faults or found.profiles
    for fault in found.faults:
        assert "Input should" not in str(fault), fault
        assert "pydantic" not in str(fault), fault


def test_the_schema_says_what_the_check_says() -> None:
    schema = file_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    valid = jsonschema.Draft202012Validator(schema).is_valid
    for path in sorted((ROOT / "configs").glob("*.yaml")):
        assert valid(yaml.safe_load(path.read_text())), path
        assert load_profiles([path]).faults == ()
    assert valid({"kernel": "x", "restart": {"policy": False}, "ports": [1, 2, 3, 4, 5]})
    for bad in ({"kernl": "x"}, {"kernel": "x", "restart": {"policy": "maybe"}}, {"kernel": 3}, {}):
        assert not valid(bad), bad
    described = schema["$defs"]["Profile"]["properties"]
    assert all("description" in described[name] for name in Profile.model_fields)


@given(st.integers(0, 10**11))
def test_a_duration_is_read_as_it_was_written(milliseconds: int) -> None:
    assert parse_duration(format_duration(milliseconds / 1000)) == pytest.approx(
        milliseconds / 1000
    )


def test_durations_and_sizes_as_systemd_writes_them() -> None:
    durations = {
        "30s": 30,
        "5min": 300,
        "1h 30min": 5400,
        "1h30min": 5400,
        "500ms": 0.5,
        "2": 2,
        "1d": 86400,
        "1.5min": 90,
    }
    assert {text: parse_duration(text) for text in durations} == durations
    assert math.isinf(parse_duration("infinity"))
    sizes = {
        "1024": 1024,
        "2G": 2 << 30,
        "1.5K": 1536,
        "10M": 10 << 20,
        "1T": 1 << 40,
        "3KiB": 3072,
    }
    assert {text: parse_size(text) for text in sizes} == sizes
    assert [format_size(n) for n in (0, 999, 1024, 1536, 50 << 20)] == [
        "0",
        "999",
        "1K",
        "1.5K",
        "50M",
    ]
    for bad in ("", "-1s", "1x", "s", "1 2x", "nan", "1e3"):
        with pytest.raises(ValueError, match="is not a duration"):
            parse_duration(bad)
    for bad in ("", "-1", "1X", "K", "1 2"):
        with pytest.raises(ValueError, match="is not a size"):
            parse_size(bad)
