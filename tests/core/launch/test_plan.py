"""From a profile to a plan: wire, command, environment, ports."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kconnd.core.launch.kernel_files import MAX_SOCKET_PATH_BYTES, socket_prefix
from kconnd.core.launch.kernelspec_file import KernelSpec, fill_in, ipykernel_spec, parse_kernelspec
from kconnd.core.launch.plan import (
    User,
    base_environment,
    expand,
    hint_for,
    warn_about,
    with_program,
)
from kconnd.core.launch.ports import choose_ports, default_range, in_order
from kconnd.core.launch.program_search import Program
from kconnd.errors import PortsTakenError, UsageError

IPYKERNEL = ipykernel_spec("/env/bin/python", ("curve",))
OTHER = KernelSpec("ir", ("R", "--args", "{connection_file}"))
ME = User("me", 1000, "/home/me", "/bin/bash")


def test_plain_tcp_is_warned_about_and_nothing_else() -> None:
    assert "every user of this machine" in warn_about("tcp", encrypted=False, loopback=True)[0]
    assert "everybody who can reach" in warn_about("tcp", encrypted=False, loopback=False)[0]
    assert warn_about("tcp", encrypted=True, loopback=True) == ()
    assert warn_about("ipc", encrypted=False, loopback=False) == ()


@given(st.integers(1, 90), st.integers(1, 81))
def test_a_path_for_sockets_fits_or_is_refused(depth: int, length: int) -> None:
    runtime, name = "/" + "r" * depth, "n" * length
    try:
        prefix = socket_prefix(runtime, name)
    except UsageError:
        assert depth > MAX_SOCKET_PATH_BYTES - 25
    else:
        assert len(f"{prefix}-5") <= MAX_SOCKET_PATH_BYTES
        assert prefix == socket_prefix(runtime, name)
        assert prefix != socket_prefix(runtime, name[:-1] + "m")


def test_the_environment_is_built_from_nothing() -> None:
    own = {"JPY_PARENT_PID": "1", "SECRET": "x", "LC_ALL": "C", "LANG": "C.UTF-8", "PATH": "/odd"}
    assert base_environment(ME, own, "") == {
        "LC_ALL": "C",
        "LANG": "C.UTF-8",
        "HOME": "/home/me",
        "USER": "me",
        "LOGNAME": "me",
        "SHELL": "/bin/bash",
        "PATH": "/usr/local/bin:/usr/bin:/bin",
    }


def test_a_bare_python_is_the_one_of_the_specs_own_environment() -> None:
    spec = KernelSpec(
        "p", ("python", "-m", "ipykernel_launcher"), resource_dir="/env/share/jupyter/kernels/p"
    )
    assert spec.prefix == "/env"
    argv, env = with_program(spec, {"PATH": "/bin"}, Program("python", "/env/bin/python"))
    assert argv[0] == "/env/bin/python"
    assert env["PATH"] == "/env/bin:/bin"
    assert with_program(OTHER, {"PATH": "/bin"}, None) == (OTHER.argv, {"PATH": "/bin"})


def test_a_program_on_path_keeps_its_name_and_path() -> None:
    program = Program("R", "/a/R", on_path=True)
    assert with_program(KernelSpec("r", ("R",)), {"PATH": "/bin"}, program) == (
        ("R",),
        {"PATH": "/bin"},
    )


def test_placeholders_and_variables() -> None:
    values = {"connection_file": "/{resource_dir}.json", "resource_dir": "/res"}
    assert fill_in(("a", "{connection_file}", "{resource_dir}/b", "{no}"), values) == (
        "a",
        "/{resource_dir}.json",
        "/res/b",
        "{no}",
    )
    assert expand({"A": "${HOME}/x:${NO}:$HOME:$$"}, {"HOME": "/h"}) == {"A": "/h/x:${NO}:/h:$"}


def test_hints() -> None:
    output = "NOTE\n/usr/bin/python3: No module named ipykernel_launcher"
    assert hint_for(output).endswith(": /usr/bin/python3 -m pip install ipykernel")
    assert hint_for(output.removeprefix("NOTE\n")) == hint_for(output)
    assert "install ipykernel in" in hint_for("x: No module named ipykernel_launcher")
    assert "install numpy" in hint_for("ModuleNotFoundError: No module named 'numpy'")
    assert "ends in CR" in hint_for("env: 'bash\\r': No such file or directory")
    assert not hint_for("all is well")


def test_kernel_specs() -> None:
    spec = parse_kernelspec("p", {"argv": ["p"], "metadata": {"supported_encryption": ["curve"]}})
    assert spec.encryptions == ("curve",)
    assert spec.interrupt_mode == "signal"
    odd = {
        "debugger": True,
        "nan": float("nan"),
        "\ud800": 1,
        "deep": [[[]] * 99],
        "long": "x" * 5000,
    }
    assert parse_kernelspec("p", {"argv": ["p"], "metadata": odd}).metadata == {"debugger": True}
    bad: Any
    for bad in ({}, {"argv": []}, {"argv": "python"}, {"argv": [1]}):
        with pytest.raises(ValueError, match="argv"):
            parse_kernelspec("p", bad)


@given(
    st.sets(st.integers(20000, 20040)),
    st.sets(st.integers(20000, 20040)),
    st.integers(20000, 20040),
)
def test_ports_are_free_different_and_granted_to_nobody_else(
    granted: set[int], used: set[int], start: int
) -> None:
    free = set(range(20000, 20041)) - granted - used
    try:
        ports = choose_ports(in_order(20000, 20040, start), granted, lambda port: port not in used)
    except PortsTakenError:
        assert len(free) < 5
    else:
        assert len(set(ports)) == 5
        assert set(ports) <= free


@given(st.integers(1024, 60000), st.integers(0, 5535))
def test_ports_come_from_outside_the_ephemeral_range(first: int, size: int) -> None:
    low, high = default_range((first, first + size))
    assert 1024 <= low <= high <= 65535
    assert high < first or low > first + size
