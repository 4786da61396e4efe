"""Facts about the machine and its users."""

import os
import pwd
from pathlib import Path

import pytest

from kconnd.system import machine

NOBODY = (1 << 32) - 2  # a uid that no account has


def test_the_own_user_is_that_of_the_systems_database() -> None:
    entry, user = pwd.getpwuid(os.geteuid()), machine.own_user()
    assert (user.name, user.uid, user.home) == (entry.pw_name, entry.pw_uid, entry.pw_dir)
    assert user.shell == (entry.pw_shell or "/bin/sh")


def test_names_and_uids() -> None:
    assert (machine.find_uid("root"), machine.user_name(0)) == (0, "root")
    assert (machine.find_uid("no such user"), machine.user_name(NOBODY)) == (None, str(NOBODY))


def test_ports_of_outgoing_connections_are_a_range() -> None:
    first, last = machine.ephemeral_ports()
    assert 0 < first < last < 1 << 16


@pytest.mark.parametrize(
    ("texts", "is_killed"),
    [
        ([], False),
        (["[Login]\nKillUserProcesses = yes\n"], True),
        (["KillUserProcesses=yes\n", "KillUserProcesses=no\n"], False),
        (["KillUserProcesses=yes\nKillExcludeUsers=ada\n"], False),
        (["#KillUserProcesses=yes\n"], False),
    ],
)
def test_a_later_file_of_logind_goes_before_an_earlier_one(
    texts: list[str], is_killed: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [tmp_path / f"{number}.conf" for number in range(len(texts) + 1)]
    for file, text in zip(files, texts, strict=False):  # the last file is missing
        file.write_text(text, encoding="utf-8")
    monkeypatch.setattr(machine, "_logind_files", lambda: files)
    assert machine.kills_user_processes("ada") is is_killed
