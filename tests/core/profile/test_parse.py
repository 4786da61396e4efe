"""Reading a profile: every refusal with its way out, and what contradicts what."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kconnd.core.profile.parse import allowed_keys, parse_profile
from kconnd.core.profile.problems import Problem, format_path
from kconnd.core.profile.rules import RULES
from tests.core.profile.samples import FIVE, PROFILES, sound

LOGIN = {"shell": "login"}


def faults(**given_keys: object) -> list[str]:
    """Parse what has faults, and give them as path, message and hint on one line each."""
    profile, problems = parse_profile(given_keys, name="lab")
    assert profile is None
    return [f"{format_path(p.path)}: {p.message}; {p.hint}" for p in problems]


def only_fault(**given_keys: object) -> str:
    (fault,) = faults(**{"kernel": "python3", **given_keys})
    return fault


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("idle", {"stop_after": "8h"}, "8h"),
        ("idle", {"stop_after": False}, "infinity"),
        ("idle", {"stop_after": "off"}, "infinity"),
        ("idle", {"stop_after": "infinity"}, "infinity"),
    ],
)
def test_idle_can_be_off_in_yaml_s_way_too(key: str, value: object, expected: str) -> None:
    assert sound(**{key: value}).model_dump(mode="json")["idle"] == {"stop_after": expected}


def test_what_yaml_makes_of_no_is_understood() -> None:
    profile = sound(restart={"policy": False}, publish=False)
    assert (profile.restart.policy, profile.publish) == ("no", "none")


def test_numbers_in_env_become_text_and_setup_becomes_lines() -> None:
    setup = "module purge\nmodule load cuda\n"
    profile = sound(env={"A": 4, "B": 1.5, "C": ""}, setup=setup, **LOGIN)
    assert profile.env == {"A": "4", "B": "1.5", "C": ""}
    assert profile.setup == ("module purge", "module load cuda")
    assert sound(setup=["a", "b\nc"], **LOGIN).setup == ("a", "b", "c")


def test_limits_are_read_as_systemd_writes_them() -> None:
    limits = sound(limits={"memory": "2G", "cpu": "150%", "tasks": 10, "open_files": 1024}).limits
    assert (limits.memory, limits.cpu, limits.tasks, limits.open_files) == (2 << 30, 1.5, 10, 1024)
    assert sound(limits={"cpu": 2}).limits.cpu == 2.0


@pytest.mark.parametrize("name", ["C++ 17", "_x", "größe", ".x", "x" * 60, "a@b", "-"])
def test_a_profile_names_its_kernel_spec_as_jupyter_does(name: str) -> None:
    assert sound(kernel=name).kernel == name


# Every refusal: what is given, and what of the text must be there (path, value, way out).
REFUSED: list[tuple[dict[str, object], str]] = [
    ({"kernel": ""}, "kernel: '' is not the name of a kernel spec; 'jupyter kernelspec list'"),
    ({"kernel": "../evil"}, "kernel: '../evil' is not the name of a kernel spec"),
    ({"kernel": ".."}, "kernel: '..' is not the name of a kernel spec"),
    ({"kernel": 3}, "kernel: 3 is not text; put it in quotes"),
    ({"kernel": None}, "kernel: has no value; give it one"),
    ({"kernel": "\ud800"}, "kernel: '\\ud800' is not the name of a kernel spec"),
    ({"name": "a@b"}, "name: 'a@b' is not a name for a kernel; up to 40 letters"),
    ({"name": "x" * 41}, "is not a name for a kernel"),
    ({"name": "a\n"}, "is not a name for a kernel"),
    ({"env": {"A": True}}, "env.A: true is a truth value in YAML; put the text in quotes"),
    ({"env": {"A": None}}, "env.A: has no value; give it one"),
    ({"env": {"A": {}}}, "env.A: a mapping is not text"),
    ({"env": {"A": "x\0y"}}, "env.A: holds a NUL character"),
    ({"env": {"": "x"}}, "env.: '' is not a name for a variable"),
    ({"env": {"[key]": True}}, "env.[key]: true is a truth value"),
    ({"[key]": 1}, "[key]: unknown key"),
    ({"env": {"A=B": "x"}}, "env.A=B: 'A=B' is not a name for a variable"),
    ({"env": {"JPY_PARENT_PID": "1"}}, "is set by kconnd itself; drop it"),
    ({"env": {"KCONND_CONNECTION_FILE": "1"}}, "is set by kconnd itself; drop it"),
    ({"env": {"KCONND_KERNEL": "1"}}, "is set by kconnd itself; drop it"),
    ({"env": ["A=1"]}, "env: a list is not a mapping; write one 'key: value' a line"),
    ({"pass_env": ["JPY_PARENT_PID"]}, "'JPY_PARENT_PID' cannot be passed: a kernel exits when"),
    ({"pass_env": ["A", "KCONND_SOCKET"]}, "'KCONND_SOCKET' cannot be passed: kconnd sets"),
    ({"pass_env": ["A=1"]}, "'A=1' cannot be passed: it is not a name for a variable"),
    ({"env_file": "lab.env"}, "env_file: 'lab.env' is not an absolute path; begin it with / or ~"),
    ({"env_file": "~/{instance}"}, "env_file: {instance} cannot stand in '~/{instance}'; it is"),
    ({"cwd": "work"}, "cwd: 'work' is not an absolute path; begin it with / or ~"),
    ({"cwd": "/\ud800"}, "cwd: holds a character that is not text"),
    ({"cwd": ""}, "cwd: '' is not an absolute path"),
    ({"connection_folder": "x"}, "connection_folder: 'x' is not an absolute path; begin it with"),
    ({"connection_folder": "~:x"}, "connection_folder: 'x' is not an absolute path; write FOLDER:"),
    ({"cwd": "/a/{name}"}, "cwd: '{name}' is an unknown placeholder; the only one is {instance}"),
    ({"cwd": {"instance": None}}, "cwd: a mapping is not text; text with braces needs quotes"),
    ({"shell": "bash"}, "shell: 'bash' is not one of none, login"),
    ({"shell": "logn"}, "did you mean 'login'?"),
    ({"shell": True}, "shell: true is not one of none, login"),
    ({"shell": "login", "setup": [1]}, "setup[0]: 1 is not text"),
    ({"shell": "login", "setup": 7}, "setup: 7 is not a list"),
    ({"transport": "udp"}, "transport: 'udp' is not one of auto, ipc, tcp"),
    ({"encryption": "tls"}, "encryption: 'tls' is not one of auto, curve, none"),
    ({"ip": "localhost"}, "ip: 'localhost' is not an IP address; write 127.0.0.1 or ::1"),
    ({"ip": "127.0.0.256"}, "is not an IP address"),
    ({"ip": "224.0.0.1"}, "is a multicast address"),
    ({"ip": 127}, "ip: 127 is not text"),
    ({"start": True}, "start: true is not one of boot, on-demand, manual"),
    ({"restart": "always"}, "restart: 'always' is not a mapping; its keys are policy,"),
    ({"restart": {"policy": "sometimes"}}, "'sometimes' is not one of no, on-failure, always; "),
    ({"restart": {"policy": True}}, "restart.policy: true is not one of no,"),
    ({"restart": {"max_failures": 0}}, "restart.max_failures: 0 is too small: at least 1"),
    ({"restart": {"max_failures": True}}, "restart.max_failures: true is not a whole number"),
    ({"restart": {"max_failures": "5"}}, "restart.max_failures: '5' is not a whole number"),
    ({"restart": {"backoff": "2 fortnights"}}, "is not a duration: write 30s"),
    ({"restart": {"backoff": 0}}, "restart.backoff: 0 is too short: at least 10ms"),
    ({"restart": {"backoff_max": "infinity"}}, "'infinity' is too long: at most 1d"),
    ({"restart": {"polcy": "no"}}, "restart.polcy: unknown key; did you mean 'policy'?"),
    ({"startup_timeout": -1}, "startup_timeout: -1 is not a duration"),
    ({"startup_timeout": 0}, "startup_timeout: 0 is too short: at least 100ms"),
    ({"stop_timeout": "soon"}, "stop_timeout: 'soon' is not a duration"),
    ({"stop_timeout": True}, "stop_timeout: True is not a duration"),
    ({"heartbeat": {"interval": "1ms"}}, "heartbeat.interval: '1ms' is too short"),
    ({"heartbeat": {"misses": 1.5}}, "heartbeat.misses: 1.5 is not a whole number"),
    ({"heartbeat": {"action": "kill"}}, "heartbeat.action: 'kill' is not one of report, restart"),
    ({"idle": {"stop_after": 0}}, "idle.stop_after: 0 is too short: at least 1s"),
    ({"idle": {"stop_after": True}}, "idle.stop_after: True is not a duration"),
    ({"idle": None}, "idle: has no value; give it one, or drop the key"),
    ({"log": {"max_size": "10MB"}}, "log.max_size: '10MB' is not a size: write 512K"),
    ({"log": {"max_size": 10}}, "log.max_size: 10 is too small: at least 4K"),
    ({"log": {"keep": -1}}, "log.keep: -1 is too small: at least 0"),
    ({"log": {"keep": 101}}, "log.keep: 101 is too large: at most 100"),
    ({"launcher": "docker"}, "launcher: 'docker' is not one of auto, local, systemd, fork"),
    ({"user": "@staff"}, "user: '@staff' is not a user's name"),
    ({"user": 1000}, "user: 1000 is not text"),
    ({"access": {"see": "anna"}}, "access.see: 'anna' is not a list; write [first, second]"),
    ({"access": {"connect": ["b b", "a/b"]}}, "access.connect[1]: 'a/b' is neither a user nor a"),
    ({"access": {"manage": ["@"]}}, "access.manage[0]: '@' is neither a user nor a group"),
    ({"access": {"see": [None]}}, "access.see[0]: has no value"),
    ({"limits": {"memory": "lots"}}, "limits.memory: 'lots' is not a size"),
    ({"limits": {"memory": None}}, "limits.memory: has no value"),
    ({"limits": {"memmory": "2G"}}, "limits.memmory: unknown key; did you mean 'memory'?"),
    ({"limits": {"cpu": 0}}, "limits.cpu: 0 is not a number of processors; write 1.5 or 150%"),
    ({"limits": {"cpu": True}}, "limits.cpu: true is not a number of processors"),
    ({"limits": {"cpu": "nan"}}, "limits.cpu: 'nan' is not a number of processors"),
    ({"limits": {"tasks": 0}}, "limits.tasks: 0 is too small: at least 1"),
    ({"limits": {"open_files": "many"}}, "limits.open_files: 'many' is not a whole number"),
    ({"preload": ["num py"]}, "preload[0]: 'num py' is not a module's name"),
    ({"preload": "numpy"}, "preload: 'numpy' is not a list"),
    ({"warm": -1}, "warm: -1 is too small: at least 0"),
    ({"warm": 1000}, "warm: 1000 is too large: at most 100"),
    ({"publish": True}, "publish: true is not one of none, jupyter"),
    ({"instance": "private"}, "instance: 'private' is not one of shared, per-session"),
    ({"on_frontend_shutdown": "no"}, "'no' is not one of auto, detach, stop"),
    ({"restartt": {}}, "restartt: unknown key; did you mean 'restart'?"),
    ({"Env": {}}, "Env: unknown key; did you mean 'env'?"),
    ({"zzzzzz": 1}, "zzzzzz: unknown key; 'kconnd-ctl schema' lists all keys"),
    ({"idle": {"zzzzzz": 1}}, "idle.zzzzzz: unknown key; the keys here are stop_after"),
    ({"a\x1b[31m": 1}, "'a\\x1b[31m': unknown key"),
]


@pytest.mark.parametrize(("keys", "text"), REFUSED)
def test_a_refusal_shows_place_value_and_way_out(keys: dict[str, object], text: str) -> None:
    fault = only_fault(**keys)
    assert text in fault
    assert "Input should" not in fault


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        ("python -m x", "argv: 'python -m x' is not a list; write [first, second]"),
        ([], "argv: the list is empty"),
        (["", "{connection_file}"], "argv: '' is empty"),
        (["./kernel", "{connection_file}"], "argv: './kernel' is not an absolute path"),
        (["kernel"], "argv: no argument holds {connection_file}; add '-f'"),
        (["{connection_file}"], "argv: no argument holds {connection_file}"),
        (["x", "{connection_file}", "{kernel_id}"], "argv: only a gateway fills in {kernel_id}"),
        (["{prefix}/x", "{connection_file}"], "argv: '{prefix}/x' is not an absolute path"),
        (
            ["x", "{connection_file}", "{prefix}"],
            "argv: {prefix} is replaced in a kernel spec only",
        ),
        (["kernel", {"connection_file": None}], "argv[1]: a mapping is not text; text with braces"),
        (["kernel", "{connection_file}", "{instance}"], "argv[2]: {instance} cannot stand"),
        (["kernel", "{connection_file}", "a\0"], "argv[2]: holds a NUL"),
    ],
)
def test_argv_is_a_command_with_a_connection_file(argv: object, text: str) -> None:
    (fault,) = faults(argv=argv)
    assert text in fault


@pytest.mark.parametrize(("text", "umask"), [("077", "077"), ("0027", "027"), ("002", "002")])
def test_a_umask_has_three_octal_digits(text: str, umask: str) -> None:
    profile, _ = parse_profile({"kernel": "python3", "umask": text}, name="lab")
    assert profile is not None
    assert profile.umask == umask


@pytest.mark.parametrize(
    ("umask", "text"),
    [
        (63, "umask: 63 is not text; write three octal digits in quotes"),
        (77, "umask: 77 is not text"),
        ("77", "umask: '77' is not a umask"),
        ("089", "umask: '089' is not a umask"),
        ("1077", "umask: '1077' is not a umask"),
        ("", "umask: '' is not a umask"),
        ("u=rwx", "umask: 'u=rwx' is not a umask"),
    ],
)
def test_a_umask_that_could_mean_something_else_is_refused(umask: object, text: str) -> None:
    assert text in only_fault(umask=umask)


@pytest.mark.parametrize("python", ["python3", "venv/bin/python", "", 3.12, "/v/{instance}"])
def test_python_is_a_path(python: object) -> None:
    (fault,) = faults(python=python)
    assert fault.startswith("python: ")


# One broken example for each row of RULES, in its order.
BROKEN: list[tuple[dict[str, object], str]] = [
    ({}, ": no key says what to run; give one of kernel, python or argv"),
    ({"kernel": "a", "python": "/b"}, "python: kernel is given as well; keep one of"),
    ({"kernel": "a", "argv": ["b", "{connection_file}"]}, "argv: kernel or python is given as"),
    ({"kernel": "a", "setup": "ls"}, "setup: setup needs shell: login"),
    ({"kernel": "a", "ports": FIVE, "transport": "ipc"}, "ports: ports are for tcp"),
    ({"kernel": "a", "ip": "::1", "transport": "ipc"}, "ip: an address is for tcp"),
    ({"kernel": "a", "encryption": "curve", "transport": "ipc"}, "encryption: curve is for tcp"),
    (
        {"kernel": "a", "transport": "ipc", "access": {"connect": ["b"]}},
        "transport: other users may connect",
    ),
    ({"kernel": "a", "restart": {"backoff": "2min"}}, "restart.backoff: is longer than restart."),
    (
        {"kernel": "a", "restart": {"policy": False}, "heartbeat": {"action": "restart"}},
        "heartbeat.action: is restart, and restart.policy is no",
    ),
    ({"kernel": "a", "instance": "per-session", "ports": FIVE}, "instance: several kernels cannot"),
    ({"kernel": "a", "warm": 1, "ports": FIVE}, "warm: warm kernels cannot share"),
    ({"kernel": "a", "warm": 1, "connection_folder": "/x"}, "warm: warm kernels have their"),
    ({"kernel": "a", "preload": ["b"], "launcher": "local"}, "preload: only the fork launcher"),
    (
        {"argv": ["b", "{connection_file}"], "preload": ["b"]},
        "preload: modules cannot be preloaded",
    ),
]


def test_each_rule_has_its_example() -> None:
    assert len(BROKEN) == len(RULES)


@pytest.mark.parametrize(("keys", "text"), BROKEN)
def test_keys_that_contradict_each_other(keys: dict[str, object], text: str) -> None:
    (fault,) = faults(**keys)
    assert fault.startswith(text)


@pytest.mark.parametrize(("keys", "text"), BROKEN)
def test_a_contradiction_is_told_beside_a_broken_key(keys: dict[str, object], text: str) -> None:
    other, contradiction = faults(**keys, cwd="work")
    assert other.startswith("cwd: ")
    assert contradiction.startswith(text)


def test_a_broken_key_leads_to_no_second_fault() -> None:
    assert len(faults(kernel=5)) == 1
    assert len(faults(kernl="python3")) == 1
    assert len(faults(kernles={"a": {}})) == 1
    misspelt = {"shell": "logn"}
    assert len(faults(kernel="a", setup="ls", **misspelt)) == 1
    assert len(faults(kernel="a", restart={"backoff": "2min", "backoff_max": "x"})) == 1
    assert len(faults(kernel="a", restart={"backof_max": "3min", "backoff": "2min"})) == 1


def test_all_faults_come_at_once() -> None:
    told = faults(
        name="a b",
        kernl="x",
        cwd=5,
        env={"A": True, "KCONND_KERNEL": "x"},
        restart={"policy": "sometimes", "backoff": "2min"},
        warm=2,
        ports=FIVE,
    )
    assert {fault.partition(":")[0] for fault in told} == {
        *("name", "kernl", "cwd", "env.A", "env.KCONND_KERNEL", "restart.policy"),
        *("restart.backoff", "warm"),
    }


def test_a_secret_in_the_environment_is_not_repeated() -> None:
    assert "hunter2" not in only_fault(env={"TOKEN": "hunter2\0"})


def test_allowed_keys_are_those_of_the_place() -> None:
    assert "kernels" in allowed_keys(())
    assert allowed_keys(("heartbeat",)) == ("interval", "misses", "action")
    assert allowed_keys(("env",)) == ()
    assert allowed_keys(("nonsense",)) == ()


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


@given(PROFILES)
def test_a_profile_reads_back_from_json_as_the_same(keys: dict[str, object]) -> None:
    profile = sound(**keys)
    text = json.dumps(profile.model_dump(mode="json", exclude_defaults=True), allow_nan=False)
    again, problems = parse_profile(json.loads(text), name="other")
    assert problems == ()
    assert again == profile


@given(st.dictionaries(st.sampled_from(allowed_keys(())) | st.text(max_size=8), ANYTHING))
def test_any_input_gives_a_profile_or_problems_in_our_own_words(keys: dict[str, Any]) -> None:
    profile, problems = parse_profile(keys, name="lab")
    assert (profile is None) == bool(problems)
    for problem in problems:
        assert isinstance(problem, Problem)
        assert "Input should" not in problem.message
        assert "is not valid here" not in problem.message
