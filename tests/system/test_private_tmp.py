"""Which folder below /tmp is used: pure looks at real folders."""

import os
from pathlib import Path

from kconnd.private_tmp import choose_folder, fallback_folders, is_occupied, is_own

ME = os.geteuid()


def test_the_usual_folder_is_used_unless_its_name_is_taken(tmp_path: Path) -> None:
    usual = tmp_path / f"kconnd-{ME}"
    assert choose_folder(ME, str(tmp_path)) == str(usual)
    usual.mkdir(mode=0o700)
    assert choose_folder(ME, str(tmp_path)) == str(usual)
    usual.rmdir()
    usual.symlink_to(tmp_path)
    one, other = choose_folder(ME, str(tmp_path)), choose_folder(ME, str(tmp_path))
    assert one.startswith(f"{usual}-")
    assert one != other, "nobody can guess it"


def test_a_stand_in_goes_first_as_long_as_it_is_there(tmp_path: Path) -> None:
    stand_in = tmp_path / f"kconnd-{ME}-0123456789abcdef"
    stand_in.mkdir(mode=0o700)
    (tmp_path / f"kconnd-{ME}").mkdir(mode=0o700)
    assert choose_folder(ME, str(tmp_path)) == str(stand_in)
    assert fallback_folders(ME, str(tmp_path)) == [str(stand_in)]
    stand_in.chmod(0o750)
    assert fallback_folders(ME, str(tmp_path)) == []
    stand_in.chmod(0o700)
    assert fallback_folders(ME + 1, str(tmp_path)) == []
    stand_in.rename(tmp_path / f"kconnd-{ME}-mine")  # a folder of the user's own doing
    assert fallback_folders(ME, str(tmp_path)) == []
    assert fallback_folders(ME, str(tmp_path / "none")) == []


def test_what_is_nobody_s_or_ours_is_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "x"
    assert not is_occupied(str(path), ME)
    assert not is_own(str(path), ME)
    path.mkdir(mode=0o755)  # to be mended by its user, as before
    assert not is_occupied(str(path), ME)
    assert is_occupied(str(path), ME + 1)
    assert not is_own(str(path), ME)
    path.rmdir()
    path.touch()
    assert is_occupied(str(path), ME)
