"""The table of measured kernels: which rows hold for a command and a version."""

from typing import Any

import pytest

from kconnd.core.launch.capabilities import (
    CURVE,
    EXITS_AFTER_SHUTDOWN,
    SURVIVES_SIGINT,
    UNIX_SOCKETS,
    FactSource,
)
from kconnd.core.launch.measured import (
    find_rows,
    inherited_facts,
    measured_facts,
    normalize,
    parse_table,
    parse_version,
)
from kconnd.system.kernel_software import read_table

TABLE = read_table()
IPYKERNEL = ("/env/bin/python", "-m", "ipykernel_launcher", "-f", "{connection_file}")


def values(facts: Any) -> dict[str, Any]:
    return {name: fact.value for name, fact in facts.items()}


@pytest.mark.parametrize(
    ("argv", "package"),
    [
        (IPYKERNEL, "ipykernel"),
        (("python3", "-Xfrozen_modules=off", "-m", "ipymini", "-f", "x"), "ipymini"),
        (("R", "--slave", "-e", "IRkernel::main()", "--args", "x"), "IRkernel"),
        (("/opt/bin/deno", "jupyter", "--kernel", "--conn", "x"), "deno"),
        (("java", "-jar", "/k/jjava-launcher.jar", "/k/jjava.jar", "x"), "jjava"),
        (("python", "-m", "ilua.app", "-c", "x"), "ilua"),
        (("/usr/bin/xpython", "-f", "x"), "xeus-python"),
        (("python", "deno"), None),
        (("python", "-m", "deno"), None),
        (("R",), None),
    ],
)
def test_a_kernel_is_recognized_by_its_command(argv: tuple[str, ...], package: str | None) -> None:
    assert {row.package for row in find_rows(TABLE, argv)} == ({package} if package else set())


@pytest.mark.parametrize(
    ("version", "curve"),
    [
        ("6.16.2", None),
        ("6.17.0", False),
        ("6.29.5", False),
        ("7.2.9", False),
        ("7.3.0", True),
        ("7.4.0", True),
        ("8.0.0a1", None),
        ("", None),
    ],
)
def test_a_row_holds_for_its_versions(version: str, curve: bool | None) -> None:  # noqa: FBT001  # pytest's way
    facts = measured_facts(find_rows(TABLE, IPYKERNEL), version)
    assert values(facts).get(CURVE) is curve


def test_without_a_version_a_fact_holds_if_all_rows_agree() -> None:
    facts = measured_facts(find_rows(TABLE, IPYKERNEL), "")
    assert values(facts) == {
        UNIX_SOCKETS: True,
        SURVIVES_SIGINT: True,
        EXITS_AFTER_SHUTDOWN: True,
    }
    assert "6.17.0" in facts[UNIX_SOCKETS].evidence
    assert facts[UNIX_SOCKETS].at is not None


@pytest.mark.parametrize(
    ("package", "requires", "versions", "curve", "unix"),
    [
        ("my-kernel", ["pexpect", "ipykernel"], {"ipykernel": "7.4.0"}, True, True),
        ("my-kernel", ["metakernel"], {"ipykernel": "6.29.5"}, False, True),
        ("my-kernel", ["IPyKernel"], {}, None, True),
        ("my-kernel", ["ipykernel"], {"ipykernel": "9.0"}, None, True),
        ("ipykernel", [], {"ipykernel": "9.0"}, None, True),
        ("metakernel", [], {"ipykernel": "7.4.0"}, True, True),
        ("my-kernel", ["twisted", "ipykernel-like"], {"ipykernel": "7.4.0"}, None, None),
    ],
)
def test_a_kernel_has_the_wire_of_what_it_is_built_on(
    package: str,
    requires: list[str],
    versions: dict[str, str],
    curve: bool | None,  # noqa: FBT001  # pytest's way
    unix: bool | None,  # noqa: FBT001  # pytest's way
) -> None:
    facts = inherited_facts(TABLE, package, requires, versions)
    assert values(facts).get(CURVE) is curve
    assert values(facts).get(UNIX_SOCKETS) is unix
    assert SURVIVES_SIGINT not in facts
    assert all(fact.source is FactSource.METADATA for fact in facts.values())


def test_versions_and_names_are_compared_by_their_parts() -> None:
    assert parse_version("7.4.0rc1") == (7, 4, 0)
    assert parse_version("1.0a8") == (1, 0)
    assert parse_version("6.9") < parse_version("6.17")
    assert parse_version("local") == ()
    assert normalize("Bash__Kernel.x") == "bash-kernel-x"


def test_each_row_holds_for_the_versions_that_were_measured() -> None:
    assert len(TABLE) > 20
    for row in TABLE:
        assert row.measured, row
        assert all(row.holds_for(version) for version in row.measured), row
        assert row.modules or row.programs or row.arguments, row
    for row in TABLE:
        others = [row2 for row2 in TABLE if row2.package == row.package and row2 is not row]
        assert not any(row2.holds_for(version) for row2 in others for version in row.measured)


def test_a_fact_with_a_misspelled_name_is_refused() -> None:
    row = {"package": "x", "versions": "", "measured": ["1"], "date": "2026-11-29"}
    with pytest.raises(ValueError, match="unknown facts: unix_soket"):
        parse_table({"kernels": [{**row, "facts": {"unix_soket": True}}]})
