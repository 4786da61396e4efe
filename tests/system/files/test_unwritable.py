"""Folders that cannot be written to: found before a write, and explained after one."""

import errno
import os
from pathlib import Path

import pytest

from kconnd.errors import KconndError, UnreachableError
from kconnd.system.files.private import ensure_private_dir
from kconnd.system.files.unwritable import explain_unwritable, find_write_error


def test_an_error_names_the_path_and_a_cure(tmp_path: Path) -> None:
    (tmp_path / "home").touch()
    home = tmp_path / "home"
    with (
        pytest.raises(UnreachableError, match=f"^starting it: {home}/x: Not a directory$") as error,
        explain_unwritable("starting it", str(home), UnreachableError),
    ):
        ensure_private_dir(home / "x/state")
    assert error.value.hint.startswith(f"the home folder {home} does not exist")


@pytest.mark.parametrize("error", [OSError(errno.EMFILE, "too many", "/x"), OSError("no path")])
def test_an_error_without_a_cure_stays(error: OSError) -> None:
    with pytest.raises(OSError) as raised, explain_unwritable("starting it", "/"):  # noqa: PT011  # compared below
        raise error
    assert raised.value is error


def test_an_error_of_ours_passes_through() -> None:
    ours = KconndError("ours")
    with pytest.raises(KconndError) as raised, explain_unwritable("starting it", "/"):
        raise ours
    assert raised.value is ours


def test_the_nearest_existing_parent_is_examined(tmp_path: Path) -> None:
    assert find_write_error(tmp_path) == 0
    assert find_write_error(tmp_path / "a/b/c") == 0
    (tmp_path / "a").touch()
    assert find_write_error(tmp_path / "a/b/c") == errno.ENOTDIR
    assert find_write_error(Path("/proc/none")) == 0  # a pseudo file system has no blocks at all


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_of_another_user_is_not_writable() -> None:
    assert find_write_error(Path("/etc/kconnd-test")) == errno.EACCES
