"""What is moved where when a uid goes from one account to another, and back."""

from collections.abc import Callable
from pathlib import Path

import pytest

from kconnd.core.account_history import Account
from kconnd.errors import KconndError, NoSuchKernelError, StateFileError
from kconnd.system.files.account_files import AccountFiles, Aside, check_account

UID = 4_294_967_294


@pytest.fixture
def files(tmp_path: Path) -> AccountFiles:
    state, run = tmp_path / "state", tmp_path / "run"
    for folder in (state / "u", state / "boot", run / "u"):
        folder.mkdir(parents=True)
    found = AccountFiles(state, run)
    found.make_folders()
    return found


@pytest.fixture
def keep(files: AccountFiles) -> Callable[[str], None]:
    """Give what leaves something of an account in every place."""

    def keep(text: str) -> None:
        for folder in (files.state / "u", files.run / "u"):
            (folder / str(UID)).mkdir()
            (folder / str(UID) / "kept").write_text(text)
        (files.state / "boot" / str(UID)).touch()

    return keep


def kept(files: AccountFiles) -> list[str]:
    folders = (files.state / "u", files.run / "u")
    return [file.read_text() for folder in folders for file in folder.glob(f"{UID}/kept")]


def test_what_was_kept_is_moved_whole_to_where_only_root_can_go(
    files: AccountFiles, keep: Callable[[str], None]
) -> None:
    files.write(UID, Account("ada"))
    keep("ada's")
    aside = files.put_aside(UID, 0.0)
    assert aside is not None
    assert (aside.name, aside.number, aside.at) == ("ada", 1, "1970-01-01T00:00:00.000Z")
    assert kept(files) == []
    assert not list((files.state / "boot").iterdir()), "nothing of it starts with the machine"
    for moved in (files.place_of(aside) / "state", files.run / "aside" / f"{UID}-1"):
        assert (moved / "kept").read_text() == "ada's"
    for folder in (files.aside, files.run / "aside", files.place_of(aside)):
        assert folder.stat().st_mode & 0o777 == 0o700
    assert files.list_aside() == [aside]
    assert files.read(UID) == Account("ada"), "until it is written whose it is now"


def test_a_move_that_was_cut_short_goes_on(
    files: AccountFiles, keep: Callable[[str], None]
) -> None:
    files.write(UID, Account("ada"))
    keep("one")
    files.put_aside(UID, 0.0)
    keep("two")  # a daemon has begun in between
    aside = files.put_aside(UID, 0.0)
    assert aside is not None
    assert kept(files) == []
    found = sorted(file.read_text() for file in files.aside.glob("*/*/kept"))
    assert found == ["one", "two"], "neither is lost"


def test_what_was_put_aside_is_given_back_in_exchange(
    files: AccountFiles, keep: Callable[[str], None]
) -> None:
    files.write(UID, Account("ada"))
    keep("old")
    files.put_aside(UID, 0.0)
    files.write(UID, files.current(UID, "ada2"))
    keep("new")
    assert files.hand_over(UID, "ada2", 1.0).name == "ada"
    assert kept(files) == ["old", "old"]
    assert files.read(UID) == Account("ada2", 1), "with the number that its kernels' units have"
    assert [aside.number for aside in files.list_aside()] == [2]
    assert (files.place_of(files.list_aside()[0]) / "state/kept").read_text() == "new"
    assert files.current(UID, "bob").number == 3, "a number that nothing has"
    files.hand_over(UID, "ada2", 2.0)
    assert kept(files) == ["new", "new"]


@pytest.mark.parametrize("again", ["u", "run"])
def test_a_daemon_that_begins_anew_gets_nothing_of_what_is_handed_over(
    files: AccountFiles, keep: Callable[[str], None], again: str
) -> None:
    """And once it is asked again, all is given back, and all else is put aside."""

    class Restarted(AccountFiles):
        def put_aside(self, uid: int, now: float) -> Aside | None:
            found = super().put_aside(uid, now)
            folder = (self.state if again == "u" else self.run) / "u" / str(UID)
            folder.mkdir()
            return found

    files.write(UID, Account("ada"))
    keep("old")
    files.put_aside(UID, 0.0)
    files.write(UID, files.current(UID, "ada2"))
    keep("new")
    with pytest.raises(KconndError, match="restoring the state") as told:
        Restarted(files.state, files.run).hand_over(UID, "ada2", 1.0)
    assert "repeat the command" in told.value.hint
    assert kept(files) == []
    ((files.state if again == "u" else files.run) / "u" / str(UID) / "kept").write_text("made anew")
    assert files.read(UID) == Account("ada2", 2)
    assert [aside.number for aside in files.list_aside()] == [1, 2]
    assert (files.aside / f"{UID}-1/state/kept").read_text() == "old"
    assert (files.run / f"aside/{UID}-1/kept").read_text() == "old"

    assert files.hand_over(UID, "ada2", 2.0).name == "ada"
    assert kept(files) == ["old", "old"]
    assert [aside.number for aside in files.list_aside()] == [2]
    assert files.hand_over(UID, "ada2", 3.0).number == 2, "and back, though more is there of it"
    assert kept(files) == ["new", "new"]
    listed = [1, 2] if again == "u" else [1]
    assert [aside.number for aside in files.list_aside()] == listed, "while more of it is there"
    left = [*files.aside.glob(f"{UID}-*/*/kept"), *files.run.glob("aside/*/kept")]
    assert sorted(file.read_text() for file in left) == ["made anew", "old", "old"]


def test_there_is_nothing_to_hand_over(files: AccountFiles) -> None:
    files.write(UID, Account("ada"))
    with pytest.raises(NoSuchKernelError, match="there is none"):
        files.hand_over(UID, "ada", 0.0)
    assert files.put_aside(UID + 1, 0.0) is None


def test_a_link_is_moved_and_not_followed(files: AccountFiles, tmp_path: Path) -> None:
    files.write(UID, Account("ada"))
    target = tmp_path / "target"
    target.mkdir()
    (files.state / "u" / str(UID)).symlink_to(target)
    aside = files.put_aside(UID, 0.0)
    assert aside is not None
    assert (files.place_of(aside) / "state").is_symlink()
    assert target.is_dir()


def test_uids_are_those_of_whom_anything_is_kept(
    files: AccountFiles, keep: Callable[[str], None]
) -> None:
    keep("x")
    files.write(7, Account("ada"))
    (files.state / "u" / "½").mkdir()
    (files.state / "owners" / "8.new").touch()
    assert files.uids() == [7, UID]


def test_a_daemon_refuses_what_is_another_accounts(files: AccountFiles) -> None:
    check_account(UID, "ada", files)  # nobody knows better
    files.write(UID, Account("ada"))
    check_account(UID, "ada", files)
    with pytest.raises(KconndError, match="belongs to the account ada, not to bob"):
        check_account(UID, "bob", files)


def test_a_file_that_cannot_be_read_is_no_permission(files: AccountFiles) -> None:
    (files.state / "owners" / str(UID)).mkdir()
    with pytest.raises(StateFileError):
        files.current(UID, "ada")
