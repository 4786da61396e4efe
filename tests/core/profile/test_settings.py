"""Settings of the machine: parsed or refused with a hint, and whom they admit."""

import pytest

from kconnd.core.access import Peer
from kconnd.core.profile.problems import format_path
from kconnd.core.profile.settings import (
    MachineSettings,
    Quotas,
    admits,
    check_admitted,
    parse_settings,
)
from kconnd.errors import RefusedError

ADA = Peer(1000, 1, "ada", frozenset({"staff"}))


def test_settings_are_parsed() -> None:
    keys = {"users": ["ada"], "quotas": {"kernels": 3, "memory": "2G"}, "connections": 5}
    settings = MachineSettings(
        users=("ada",), quotas=Quotas(kernels=3, memory=2 << 30), connections=5
    )
    assert parse_settings(keys) == (settings, ())
    assert parse_settings({}) == (MachineSettings(), ())


def test_all_faults_come_at_once() -> None:
    settings, problems = parse_settings(
        {"user": [], "quotas": {"kernel": 1, "memory": "lots"}, "connections": 0}
    )
    assert settings is None
    assert {(format_path(problem.path), problem.message) for problem in problems} == {
        ("user", "unknown key"),
        ("quotas.kernel", "unknown key"),
        (
            "quotas.memory",
            "'lots' is not a size: write 512K, 10M, 2G, 1T or a number of bytes",
        ),
        ("connections", "0 is too small: at least 1"),
    }
    hints = {format_path(problem.path): problem.hint for problem in problems}
    assert hints["user"] == "did you mean 'users'?"
    assert hints["quotas.kernel"] == "did you mean 'kernels'?"


@pytest.mark.parametrize(
    ("users", "admitted"),
    [((), True), (("ada",), True), (("@staff",), True), (("eve", "@ops"), False)],
)
def test_users_and_groups_are_admitted(users: tuple[str, ...], *, admitted: bool) -> None:
    settings = MachineSettings(users=users)
    assert admits(settings, ADA) is admitted
    assert admits(settings, Peer(0, 1, "root"))
    if admitted:
        check_admitted(settings, ADA)
        return
    with pytest.raises(RefusedError, match="uid 1000 may not use kconnd") as caught:
        check_admitted(settings, ADA)
    assert "'users' in /etc/kconnd/kconnd.yaml" in caught.value.hint
