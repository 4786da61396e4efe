import pytest

from kconnd.cli.logout import APART, LINGER, cure_for_logout

SSH = "0::/user.slice/user-1000.slice/session-3.scope\n"
DESKTOP = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/vte-spawn-1.scope\n"
SYSTEM = "0::/system.slice/cron.service\n"
OLD = "1:name=systemd:/user.slice/user-1000.slice/session-3.scope\n0::/\n"


@pytest.mark.parametrize(
    ("cgroup", "kills", "lingers", "cure"),
    [
        (SSH, False, False, ""),
        (SSH, False, True, ""),
        (SSH, True, False, f"{LINGER} && {APART}"),
        (SSH, True, True, APART),
        (OLD, True, True, APART),
        (DESKTOP, False, False, LINGER),
        (DESKTOP, True, False, LINGER),
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
