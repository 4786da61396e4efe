"""Which commands can be forked, from which parent; and when one process stands for another."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kconnd.core.launch.forking import (
    MIN_REFUSAL_S,
    Parent,
    choose_open_files,
    choose_parent,
    exec_time,
    refusal_time_s,
    wants_more_files,
)
from kconnd.core.launch.kernel_files import kernel_files
from kconnd.core.launch.kernelspec_file import python_module
from kconnd.core.launch.plan import LaunchPlan, kernel_variables
from kconnd.core.launch.warm import same_start

WORD = st.text(st.characters(codec="ascii", exclude_characters="\0"), min_size=1, max_size=8)
ENV = st.dictionaries(st.from_regex(r"[A-Z_]{1,8}", fullmatch=True), WORD, max_size=6)
FLAGS = st.lists(
    st.sampled_from([("-X", "dev"), ("-Xdev",), ("-W", "error"), ("-Wd",), ("-O",), ("-sE",)])
).map(lambda found: tuple(word for flag in found for word in flag))
IPYKERNEL = ("/p/python", "-m", "ipykernel_launcher", "-f", "/r/k.json")


@given(FLAGS, WORD, st.lists(WORD).map(tuple))
def test_a_command_that_runs_a_module_is_taken_apart_and_put_together(
    flags: tuple[str, ...], module: str, args: tuple[str, ...]
) -> None:
    argv = ("python", *flags, "-m", module, *args)
    found = python_module(argv)
    assert found is not None
    assert ("python", *found.flags, "-m", found.module, *found.args) == argv
    assert (found.flags, found.module) == (flags, module)


@pytest.mark.parametrize(
    "argv",
    [
        (),
        ("python",),
        ("python", "-m"),
        ("python", "x.py"),
        ("R", "-e", "x"),
        ("python", "-c", "x"),
    ],
)
def test_a_command_that_runs_none_is_none(argv: tuple[str, ...]) -> None:
    assert python_module(argv) is None


@given(ENV)
def test_with_modules_of_ones_own_every_variable_counts_but_ours(env: dict[str, str]) -> None:
    found = dict(exec_time({**env, "KCONND_KERNEL": "x"}, whole=True))
    assert found == {name: value for name, value in env.items() if not name.startswith("KCONND_")}


@given(ENV, st.permutations(["LD_LIBRARY_PATH", "PYTHONPATH", "LC_ALL", "HOME", "IPYTHONDIR"]))
def test_what_is_read_at_the_beginning_makes_another_parent(
    env: dict[str, str], names: list[str]
) -> None:
    one = choose_parent(IPYKERNEL, env, "/", ())
    two = choose_parent(IPYKERNEL, {**env, names[0]: "new"}, "/", ())
    assert isinstance(one, Parent)
    assert one != two
    assert one == choose_parent(IPYKERNEL, {**env, "DATA": "other", "KCONND_KERNEL": "y"}, "/", ())
    assert one != choose_parent(IPYKERNEL, {**env, "DATA": "other"}, "/", ("numpy",))


def test_a_relative_place_for_modules_is_below_the_kernels_folder() -> None:
    env = {"PYTHONPATH": "lib:/abs:../up::"}
    parent = choose_parent(IPYKERNEL, env, "/home/ada", ())
    assert isinstance(parent, Parent)
    found = "/home/ada/lib:/abs:/home/ada/../up:/home/ada:/home/ada"
    assert parent.env == (("PYTHONPATH", found),)
    assert parent == choose_parent(IPYKERNEL, {"PYTHONPATH": found}, "/elsewhere", ())
    assert parent != choose_parent(IPYKERNEL, env, "/home/bob", ())


@pytest.mark.parametrize(
    ("argv", "why"),
    [
        (("R", "--slave"), "this runs R"),
        (("/p/python", "-m", "bash_kernel"), "this runs bash_kernel"),
        (("/bin/bash", "-l", "-c", "x"), "this runs /bin/bash"),
    ],
)
def test_what_is_not_ipykernel_is_not_forked(argv: tuple[str, ...], why: str) -> None:
    assert str(choose_parent(argv, {}, "/", ())).endswith(why)


def test_the_environment_of_a_parent_is_in_no_text() -> None:
    parent = choose_parent(IPYKERNEL, {"HOME": "s3cret"}, "/", ())
    assert "s3cret" not in repr(parent)


def plan(name: str, generation: int, env: dict[str, str]) -> LaunchPlan:
    files = kernel_files("/r", "/s", name)
    file = files.connection_file
    return LaunchPlan(
        name=name,
        generation=generation,
        argv=("python", "-m", "ipykernel_launcher", "-f", file),
        env={**env, **kernel_variables(name, file)},
        cwd="/",
        files=files,
    )


@given(ENV, st.integers(1, 9), st.integers(1, 9))
def test_plans_that_differ_in_names_alone_start_the_same(
    env: dict[str, str], one: int, two: int
) -> None:
    assert same_start(plan("a", one, env), plan("b~1", two, env))


@given(ENV)
def test_any_other_difference_makes_another_start(env: dict[str, str]) -> None:
    one = plan("a", 1, env)
    others = (
        replace(one, cwd="/tmp"),
        replace(one, umask=0o077),
        replace(one, argv=(*one.argv, "--debug")),
        replace(one, env={**one.env, "MORE": "1"}),
        replace(one, launcher="fork"),
        replace(one, limits={"memory": 1.0}),
        replace(one, preload=("numpy",)),
        replace(one, log_max=1),
    )
    assert not any(same_start(one, other) for other in others)


@pytest.mark.parametrize(
    ("asked", "own", "found"),
    [
        ({}, (1024, 4096), (1024, 4096)),
        ({}, (1024, -1), (1024, -1)),
        ({"memory": 1.0}, (1024, -1), (1024, -1)),
        ({"open_files": 300.0}, (1024, 4096), (300, 300)),
        ({"open_files": 4096.0}, (1024, 4096), (4096, 4096)),
        ({"open_files": 9999.0}, (1024, 4096), (4096, 4096)),
        ({"open_files": 9999.0}, (1024, -1), (9999, 9999)),
    ],
)
def test_a_kernels_open_files(
    asked: dict[str, float], own: tuple[int, int], found: tuple[int, int]
) -> None:
    assert choose_open_files(asked, own) == found
    assert wants_more_files(asked, own) == (0 < found[1] < asked.get("open_files", 0))


@given(st.floats(0, 1e6))
def test_to_try_again_takes_a_tenth_of_the_time_at_most(took: float) -> None:
    assert refusal_time_s(took) >= max(MIN_REFUSAL_S, 10 * took)
    assert refusal_time_s(0) == MIN_REFUSAL_S
