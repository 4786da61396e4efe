"""Which limits are enforced, why others are not, and the words for them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kconnd.core import limits
from kconnd.core.limits import UserManager, compare, describe_unenforced, find_obstacle, foresee

SESSION = "/user.slice/user-1000.slice/session-3.scope"
MANAGER = "/user.slice/user-1000.slice/user@1000.service/app.slice/run-7.scope"
KEYS = st.sampled_from(limits.LIMIT_KEYS)
AMOUNTS = st.dictionaries(KEYS, st.integers(1, 1 << 40))


@pytest.mark.parametrize(
    ("cgroup", "has_bus", "lingers", "obstacle"),
    [
        (SESSION, True, True, ""),
        (SESSION, True, False, limits.ENDS_AT_LOGOUT),
        (MANAGER, True, False, ""),  # the daemon ends with the user's systemd, too
        (MANAGER, False, True, limits.NO_MANAGER),
        ("/system.slice/slurmstepd.scope/job_7/step_0", True, True, limits.NOT_IN_SLICE),
        ("/user.slice/user-10000.slice/session-3.scope", True, True, limits.NOT_IN_SLICE),
        ("/", True, True, limits.NOT_IN_SLICE),
        ("", True, True, limits.NOT_IN_SLICE),
    ],
)
def test_a_kernel_gets_a_scope_where_it_loses_nothing_by_it(
    cgroup: str, *, has_bus: bool, lingers: bool, obstacle: str
) -> None:
    assert find_obstacle(cgroup, 1000, has_bus=has_bus, lingers=lingers) == obstacle


def test_what_a_kernel_would_not_have_is_foreseen() -> None:
    wanted = {"memory": 1 << 30, "cpu": 1.5, "tasks": 60, "open_files": 300}
    assert foresee(wanted, UserManager(frozenset({"memory", "pids", "cpu"}), "")) == {}
    assert foresee(wanted, UserManager(frozenset({"memory", "pids"}), "")) == {
        "cpu": limits.NOT_DELEGATED
    }
    everything = frozenset({"memory", "pids", "cpu"})
    assert foresee({"tasks": 1}, UserManager(everything, "busy")) == {"tasks": "busy"}
    assert foresee({"open_files": 1}, UserManager()) == {}


def test_a_limit_is_enforced_if_the_operating_system_reports_it() -> None:
    wanted = {"memory": 1 << 30, "cpu": 0.5, "tasks": 60, "open_files": 300}
    # The shim is a task of the kernel's control group, and systemd rounds a quota.
    real = {"memory": 1 << 30, "cpu": 0.505, "tasks": 61, "open_files": 300}
    assert compare(wanted, real, {}) == (wanted, {})
    unlimited = {"memory": float(1 << 62), "open_files": 100}
    assert compare(wanted, unlimited, {"cpu": "why"}) == (
        {"open_files": 100},
        {
            "memory": limits.NO_CGROUP_LIMIT,
            "cpu": "why",
            "tasks": limits.NO_CGROUP_LIMIT,
            "open_files": "each process may open only 100 here",
        },
    )
    # The machine's profile can have a lower limit, which is the one that ends a kernel.
    assert compare({"memory": 8 << 30}, {"memory": 1 << 30}, {})[0] == {"memory": 1 << 30}


@given(AMOUNTS, AMOUNTS)
def test_each_limit_is_enforced_or_reported(
    wanted: dict[str, float], real: dict[str, float]
) -> None:
    enforced, unenforced = compare(wanted, real, {})
    assert {*enforced, *unenforced} == set(wanted)
    assert {*enforced} & {*unenforced} <= {"open_files"}
    assert all(enforced[key] <= wanted[key] for key in enforced)


def test_limits_with_one_reason_are_described_together() -> None:
    assert describe_unenforced({"memory": "no", "cpu": "never", "tasks": "no"}) == (
        "limits.memory, limits.tasks are not enforced: no; limits.cpu is not enforced: never"
    )
    assert describe_unenforced({}) == ""


def test_a_unit_has_room_for_the_shim_and_no_swap() -> None:
    wanted = {"memory": 4096, "cpu": 0.00001, "tasks": 1, "open_files": 9}
    assert limits.cgroup_properties(wanted) == {
        "MemoryMax": ("t", 4096),
        "MemorySwapMax": ("t", 0),
        "CPUQuotaPerSecUSec": ("t", limits.MIN_CPU_US),
        "TasksMax": ("t", 2),
    }
