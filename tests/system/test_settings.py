"""The settings of the machine: what is read, what is refused, and who is let in."""

import os
from pathlib import Path

import pytest

from kconnd.core.access import Peer
from kconnd.core.settings import Settings, admits
from kconnd.system.settings import read_settings

ME = os.geteuid()


def settings_of(folder: Path, text: str) -> tuple[Settings | None, list[str]]:
    path = folder / "kconnd.yaml"
    path.write_text(text, encoding="utf-8")
    path.chmod(0o644)
    settings, faults = read_settings(str(path), uid=ME)
    return settings, [str(fault).rpartition("kconnd.yaml:")[2] for fault in faults]


def test_what_is_not_there_is_all_defaults(tmp_path: Path) -> None:
    assert read_settings(str(tmp_path / "none.yaml"), uid=ME) == (Settings(), ())
    assert settings_of(tmp_path, "") == (Settings(), [])
    assert read_settings(str(tmp_path / "no" / "folder.yaml"), uid=ME) == (Settings(), ())


def test_all_that_can_be_set(tmp_path: Path) -> None:
    text = "users: ['@staff', ada]\nquotas: {kernels: 3, memory: 2G}\nconnections: 9\n"
    settings, faults = settings_of(tmp_path, text)
    assert faults == []
    assert settings is not None
    assert (settings.users, settings.connections) == (("@staff", "ada"), 9)
    assert (settings.quotas.kernels, settings.quotas.memory) == (3, 2 << 30)


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("user: [ada]", ["1:1: user: unknown key; did you mean 'users'?"]),
        ("quotas: {kernel: 3}", ["1:10: quotas.kernel: unknown key; did you mean 'kernels'?"]),
        ("quotas: {kernels: 0}", ["1:19: quotas.kernels: 0 is too small: at least 1"]),
        ("connections: many", ["1:14: connections: 'many' is not a whole number"]),
        ("connections: 0", ["1:14: connections: 0 is too small: at least 1"]),
        (
            "users: ada",
            ["1:8: users: 'ada' is not a list; write [first, second], or one '- item' a line"],
        ),
        ("- a", ["1:1: a list is not a mapping; write key: value lines"]),
    ],
)
def test_faults_have_a_place_and_a_way_out(tmp_path: Path, text: str, faults: list[str]) -> None:
    assert settings_of(tmp_path, text) == (None, faults)


def test_broken_yaml_and_files_of_others_are_refused(tmp_path: Path) -> None:
    settings, faults = settings_of(tmp_path, "users: [")
    assert settings is None
    assert faults
    path = tmp_path / "kconnd.yaml"
    path.write_text("users: [eve]", encoding="utf-8")
    path.chmod(0o666)
    settings, found = read_settings(str(path), uid=ME)
    assert settings is None
    assert "everybody may write to it" in str(found[0])


@pytest.mark.parametrize(
    ("users", "name", "groups", "let_in"),
    [
        ((), "eve", (), True),
        (("ada",), "ada", (), True),
        (("ada",), "eve", (), False),
        (("@staff",), "eve", ("staff",), True),
        (("@staff",), "eve", ("students",), False),
        (("@staff",), "staff", (), False),
    ],
)
def test_who_may_use_the_service(
    users: tuple[str, ...], name: str, groups: tuple[str, ...], let_in: object
) -> None:
    settings = Settings(users=users)
    assert admits(settings, Peer(1000, 1, name, frozenset(groups))) == let_in
    assert admits(settings, Peer(0, 1, "root"))
