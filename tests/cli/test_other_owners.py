"""Owners by name and uid, and what is believed of their daemons."""

import os
import pwd

import pytest

from kconnd.client.other_owners import find_uid, foreign_error, foreign_reply
from kconnd.errors import NoSuchKernelError, RefusedError
from tests.cli.fake_daemon import kernel

STRANGER = os.geteuid() + 1


def test_an_owner_is_a_name_or_a_uid() -> None:
    ours = pwd.getpwuid(os.geteuid())
    assert find_uid(ours.pw_name) == find_uid(str(ours.pw_uid)) == ours.pw_uid


def test_a_name_that_is_a_number_goes_before_a_uid(monkeypatch: pytest.MonkeyPatch) -> None:
    """Universities give such names, and their daemons report them as the owner."""
    student = pwd.struct_passwd(("4711", "x", 5001, 100, "", "/home/4711", "/bin/sh"))
    known = {"4711": student}
    monkeypatch.setattr(pwd, "getpwnam", lambda name: known[name])
    assert find_uid("4711") == 5001
    assert find_uid(str(os.geteuid())) == os.geteuid()


@pytest.mark.parametrize("owner", ["no such user", "", "4294967294", "9" * 30, "-1", "\u0661"])
def test_nobody_is_not_an_owner(owner: str) -> None:
    with pytest.raises(NoSuchKernelError, match="there is no user"):
        find_uid(owner)


def test_a_kernel_is_its_owners_and_its_process_too() -> None:
    shown = kernel("lab", owner="root", pid=os.getpid(), failures=0)
    shown |= {"profile_status": "current", "log_file": "/var/x/lab.log"}
    reply = foreign_reply("/v1/kernels/lab", shown, STRANGER)
    assert (reply["uid"], reply["pid"]) == (STRANGER, None), "the process is ours, not theirs"
    assert reply["owner"] != "root"
    assert foreign_reply("/v1/kernels/lab", shown, os.geteuid())["pid"] == os.getpid()


def test_an_error_keeps_its_kind_and_says_whose_it_is() -> None:
    fields = {"code": "refused", "message": "not you", "hint": "kconnd-ctl info lab"}
    error = foreign_error(fields, STRANGER, "/v1/kernels/lab")
    assert isinstance(error, RefusedError)
    assert "says: not you" in error.message
    assert error.hint.endswith("/lab")
