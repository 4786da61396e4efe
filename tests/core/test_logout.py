import pytest

from kconnd.core.logout import (
    LINGER_COMMAND,
    OWN_SCOPE_COMMAND,
    cure_for_logout,
    cure_for_shared_memory,
    ends_at_logout,
    linger_mark,
)

SSH = "0::/user.slice/user-1000.slice/session-3.scope\n"
DESKTOP = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/vte-spawn-1.scope\n"
SYSTEM = "0::/system.slice/cron.service\n"
OLD = "1:name=systemd:/user.slice/user-1000.slice/session-3.scope\n0::/\n"


@pytest.mark.parametrize(
    ("cgroup", "kills", "lingers", "cure"),
    [
        (SSH, False, False, ""),
        (SSH, False, True, ""),
        (SSH, True, False, f"{LINGER_COMMAND} && {OWN_SCOPE_COMMAND}"),
        (SSH, True, True, OWN_SCOPE_COMMAND),
        (OLD, True, True, OWN_SCOPE_COMMAND),
        (DESKTOP, False, False, LINGER_COMMAND),
        (DESKTOP, True, False, LINGER_COMMAND),
        (DESKTOP, True, True, ""),
        (SYSTEM, True, False, ""),
        ("0::/\n", True, False, ""),
        ("", True, False, ""),
    ],
)
def test_what_a_logout_ends_has_its_cure(
    cgroup: str, cure: str, *, kills: bool, lingers: bool
) -> None:
    assert cure_for_logout(cgroup, kills=kills, lingers=lingers) == cure


@pytest.mark.parametrize(
    ("kills", "only", "excluded", "user", "ends"),
    [
        ("no", "", "root", "ada", False),
        ("yes", "", "root", "ada", True),
        ("On", "", "", "root", True),
        ("yes", "", "root", "root", False),
        ("yes", "bob eve", "root", "ada", False),
        ("yes", "bob ada", "root", "ada", True),
        ("yes", "ada", "ada", "ada", False),
    ],
)
def test_whom_logind_spares(kills: str, only: str, excluded: str, user: str, ends: object) -> None:
    settings = {"KillUserProcesses": kills, "KillOnlyUsers": only, "KillExcludeUsers": excluded}
    assert ends_at_logout(settings, user) == ends


@pytest.mark.parametrize(
    ("user", "mark"),
    [
        ("ada", "ada"),
        ("jane doe", "jane doe"),
        (r"EXAMPLE\jane", r"EXAMPLE\\jane"),
        ("o'brien", r"o\'brien"),
        ("jürgen", r"j\303\274rgen"),
        ("jane@uni.example", "jane@uni.example"),
    ],
)
def test_logind_escapes_the_name_of_a_user_who_lingers(user: str, mark: str) -> None:
    assert linger_mark(user) == mark


@pytest.mark.parametrize(
    ("uid", "removes", "lingers", "kept"),
    [
        (1000, True, False, False),
        (1000, True, True, True),
        (1000, False, False, True),
        (0, True, False, True),
        (999, True, False, True),
    ],
)
def test_what_a_logout_takes_of_shared_memory_has_its_cure(
    uid: int, *, removes: bool, lingers: bool, kept: bool
) -> None:
    cure = cure_for_shared_memory(uid, removes_ipc=removes, lingers=lingers)
    assert (cure == "") is kept
    assert kept or cure.startswith(LINGER_COMMAND)
