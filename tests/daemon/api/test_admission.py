"""Who may ask a daemon anything, where the machine has settings."""

import os
import pwd
from pathlib import Path

import pytest

from kconnd.core.access import Peer
from kconnd.daemon.api.admission import Gate
from kconnd.errors import RefusedError, StartFailedError
from kconnd.system.profiles.settings_file import LiveSettings

ME = os.geteuid()


def gate(folder: Path, text: str) -> Gate:
    path = folder / "kconnd.yaml"
    path.write_text(text, encoding="utf-8")
    path.chmod(0o644)
    return Gate(LiveSettings(str(path), uid=ME))


def test_without_settings_everybody_may_ask() -> None:
    Gate(None).admit(Peer(4711, 7))


def test_who_is_not_named_is_refused(tmp_path: Path) -> None:
    found = gate(tmp_path, "users: [ada, '@staff']\n")
    found.admit(Peer(4711, 7, "ada"))
    found.admit(Peer(4712, 7, "bob", frozenset({"staff"})))
    found.admit(Peer(0, 7))
    for peer in (Peer(4713, 7, "eve", frozenset({"ada"})), Peer(4714, 7)):
        with pytest.raises(RefusedError, match="may not use kconnd on this machine"):
            found.admit(peer)


def test_the_daemons_own_user_is_looked_up(tmp_path: Path) -> None:
    """Its connections come without a name, since for all else none is needed."""
    if ME == 0:
        account = next(one for one in pwd.getpwall() if one.pw_uid != 0)
    else:
        account = pwd.getpwuid(ME)
    gate(tmp_path, f"users: [{account.pw_name}]\n").admit(Peer(account.pw_uid, 7))
    with pytest.raises(RefusedError):
        gate(tmp_path, "users: [nobody-of-this-name]\n").admit(Peer(account.pw_uid, 7))


def test_settings_that_cannot_be_read_are_a_refusal(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="the settings of kconnd on this machine cannot be read"):
        gate(tmp_path, "user: []\n").admit(Peer(4711, 7, "ada"))


def test_what_is_not_counted_is_not_launched_where_kernels_are_counted(tmp_path: Path) -> None:
    counting = gate(tmp_path, "quotas: {kernels: 3}\n")
    counting.check_launcher("systemd")
    with pytest.raises(StartFailedError, match="counts each user's kernels"):
        counting.check_launcher("local")
    gate(tmp_path, "quotas: {memory: 3G}\n").check_launcher("local")
    Gate(None).check_launcher("local")
