"""The settings of the machine: what is read, what is refused, and who is let in."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from kconnd.core.access import Peer
from kconnd.core.profile.settings import MachineSettings, admits
from kconnd.errors import ProfileError
from kconnd.system.files.stamps import Settling, stamp_file
from kconnd.system.profiles.settings_file import (
    EMPTY_SETTLE_DELAY_S,
    SETTLE_DELAY_S,
    LiveSettings,
    read_settings,
)

ME = os.geteuid()


def settings_of(folder: Path, text: str) -> tuple[MachineSettings | None, list[str]]:
    path = folder / "kconnd.yaml"
    path.write_text(text, encoding="utf-8")
    path.chmod(0o644)
    settings, faults = read_settings(str(path), uid=ME)
    return settings, [str(fault).rpartition("kconnd.yaml:")[2] for fault in faults]


def test_what_is_not_there_is_all_defaults(tmp_path: Path) -> None:
    assert read_settings(str(tmp_path / "none.yaml"), uid=ME) == (MachineSettings(), ())
    assert settings_of(tmp_path, "") == (MachineSettings(), [])
    assert read_settings(str(tmp_path / "no" / "folder.yaml"), uid=ME) == (MachineSettings(), ())


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
    assert "all users may write to the file" in str(found[0])


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
    settings = MachineSettings(users=users)
    assert admits(settings, Peer(1000, 1, name, frozenset(groups))) == let_in
    assert admits(settings, Peer(0, 1, "root"))


class Clock:
    """Both clocks, which stand still until they are told to go on."""

    def __init__(self) -> None:
        self.at = 1e9

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def clock() -> Clock:
    return Clock()


def live(path: Path, clock: Clock) -> LiveSettings:
    """Give settings that believe no date of a file: those of tests are of today."""
    return LiveSettings(str(path), uid=ME, settling=Settling(clock, lambda: 0.0))


def write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    path.chmod(0o644)


def test_what_changes_takes_effect_once_it_is_left_alone(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "kconnd.yaml"
    write(path, "users: [ada]\n")
    settings = live(path, clock)
    assert settings.now().users == ("ada",)
    write(path, "users: [ada]\nquotas: {kernels: 7")  # half of it is there
    settings.now()
    clock.at += SETTLE_DELAY_S / 2
    write(path, "users: [ada, bob]\nquotas: {kernels: 7}\n")
    clock.at += SETTLE_DELAY_S / 2
    assert settings.now().users == ("ada",)
    clock.at += SETTLE_DELAY_S
    assert settings.now().users == ("ada", "bob")


@pytest.mark.parametrize("harm", [lambda path: path.write_text(""), lambda path: path.unlink()])
def test_a_file_that_is_emptied_for_an_instant_lets_nobody_in(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture, harm: Callable[[Path], None]
) -> None:
    path = tmp_path / "kconnd.yaml"
    write(path, "users: [ada]\n")
    settings = live(path, clock)
    settings.now()
    harm(path)
    for _ in range(3):
        assert settings.now().users == ("ada",)
        clock.at += EMPTY_SETTLE_DELAY_S / 4
    assert caplog.text.count("the previous settings apply") == 1
    write(path, "users: [ada, bob]\n")
    settings.now()
    clock.at += SETTLE_DELAY_S
    assert settings.now().users == ("ada", "bob")
    # Whoever means it waits, or says so.
    harm(path)
    settings.now()
    clock.at += EMPTY_SETTLE_DELAY_S
    assert settings.now() == MachineSettings()
    write(path, "users: [ada]\n")
    assert settings.reload().users == ("ada",)
    harm(path)
    assert settings.reload() == MachineSettings()


def test_at_the_start_nothing_is_a_setting_and_an_empty_file_is_none_yet(
    tmp_path: Path, clock: Clock
) -> None:
    path = tmp_path / "kconnd.yaml"
    assert live(path, clock).now() == MachineSettings()
    write(path, "")
    settings = live(path, clock)
    with pytest.raises(ProfileError, match="is being written"):
        settings.now()
    clock.at += EMPTY_SETTLE_DELAY_S
    assert settings.now() == MachineSettings()


def test_a_fault_leaves_the_settings_before_it(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "kconnd.yaml"
    write(path, "users: [ada]\n")
    settings = live(path, clock)
    settings.now()
    write(path, "user: []\n")
    assert settings.reload().users == ("ada",)
    with pytest.raises(ProfileError, match="unknown key"):
        live(path, clock).now()


def test_a_change_long_ago_need_not_be_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "kconnd.yaml"
    write(path, "users: [ada]\n")
    stamp = stamp_file(str(path))
    late = Settling(lambda: 0.0, lambda: stamp.changed_at + SETTLE_DELAY_S)
    assert late.is_settled(stamp, SETTLE_DELAY_S)
    early = Settling(lambda: 0.0, lambda: stamp.changed_at + SETTLE_DELAY_S / 2)
    assert not early.is_settled(stamp, SETTLE_DELAY_S)
    path.unlink()
    assert stamp_file(str(path)).changed_at >= stamp.changed_at, "its folder tells of it"
