"""The commands ``kconnd-front --put-aside UID`` and ``--hand-over UID``, on a temporary folder."""

import pwd
from pathlib import Path

import pytest

from kconnd.core.account_history import Account
from kconnd.errors import KconndError
from kconnd.front.setting_aside import hand_over, parse_uid, put_aside
from kconnd.system.files.account_files import AccountFiles

USER = next(entry for entry in pwd.getpwall() if entry.pw_uid != 0)


@pytest.fixture
def files(tmp_path: Path) -> AccountFiles:
    """Give the files of an account ``ada``, which had the uid of `USER` before."""
    files = AccountFiles(tmp_path / "state", tmp_path / "run")
    for folder in (files.state / "u" / str(USER.pw_uid), files.state / "boot", files.run / "u"):
        folder.mkdir(parents=True)
    files.make_folders()
    files.write(USER.pw_uid, Account("ada"))
    (files.state / "u" / str(USER.pw_uid) / "record").write_text("ada's")
    return files


def test_files_are_put_aside_and_handed_over_to_the_renamed_account(files: AccountFiles) -> None:
    uid, stopped = USER.pw_uid, list[int]()
    record = files.state / "u" / str(uid) / "record"
    message = put_aside(uid, files)
    assert message == f"moved the files of ada, uid {uid}, to {files.aside / f'{uid}-1'}"
    assert not record.exists()
    message = hand_over(uid, files, stopped.append)
    assert message.startswith(
        f"{USER.pw_name}, uid {uid}, has the files back that were put aside of ada"
    )
    assert (record.read_text(), stopped) == ("ada's", [uid])
    assert files.read(uid) == Account(USER.pw_name)


def test_a_uid_without_a_record_has_nothing_to_put_aside(files: AccountFiles) -> None:
    assert "no account is recorded for uid 300000" in put_aside(300000, files)


def test_a_uid_without_an_account_gets_nothing(files: AccountFiles) -> None:
    stopped = list[int]()
    with pytest.raises(KconndError, match="uid 300000: the uid has no account"):
        hand_over(300000, files, stopped.append)
    assert stopped == []


@pytest.mark.parametrize("text", ["", "-1", "ada", "65535", "4294967295", "٣", "1e3", "9" * 5000])
def test_what_is_no_uid_is_refused(text: str) -> None:
    with pytest.raises(KconndError, match="is not the uid of a user"):
        parse_uid(text)


def test_every_valid_uid_is_accepted() -> None:
    assert [parse_uid(text) for text in ("0", "65534", "4294967294")] == [0, 65534, 4294967294]
