"""Whose a kernel on record is: doubt means elsewhere."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kconnd.core.kernel.lifecycle import LIVE, State
from kconnd.core.kernel.locality import (
    Evidence,
    Lock,
    choose_holder,
    file_system_of,
    is_elsewhere,
    is_here,
)
from kconnd.core.kernel.record import Origin

HERE = Origin("m", "here", "b1", "pid:[1]")
THERE = replace(HERE, host="there", pid_namespace="pid:[2]")
AT_REST = [state for state in State if state not in LIVE and state is not State.BACKOFF]

origins = st.builds(
    Origin,
    st.just("m"),
    st.sampled_from(["here", "there", ""]),
    st.sampled_from(["b1", "b0"]),
    st.sampled_from(["pid:[1]", "pid:[2]", ""]),
)
evidences = st.builds(
    Evidence,
    state=st.none() | st.sampled_from(State),
    recorded=st.none() | origins,
    locked=st.none() | origins,
    lock=st.sampled_from(Lock),
    proved=st.booleans(),
    local=st.booleans(),
)


@given(evidences)
def test_a_held_lock_whose_process_is_not_found_is_never_ours(evidence: Evidence) -> None:
    assert is_elsewhere(replace(evidence, lock=Lock.HELD, proved=False), HERE)


@given(evidences, st.sampled_from(Lock))
def test_what_is_found_here_is_ours_whatever_is_on_record(evidence: Evidence, lock: Lock) -> None:
    assert not is_elsewhere(replace(evidence, proved=True, lock=lock), HERE)


@given(evidences)
def test_what_another_machine_id_wrote_is_never_ours(evidence: Evidence) -> None:
    theirs = replace(HERE, machine="other")
    assert is_elsewhere(replace(evidence, recorded=theirs), HERE)


@given(evidences)
def test_less_to_go_by_never_makes_a_kernel_ours(evidence: Evidence) -> None:
    """Neither a file system that may lose locks, nor a held lock, nor a process not found."""
    if is_elsewhere(evidence, HERE):
        worse = [replace(evidence, lock=Lock.HELD), replace(evidence, local=False)]
        worse.append(replace(evidence, proved=False))
        for one in worse:
            assert is_elsewhere(one, HERE)


@given(evidences, st.sampled_from([Lock.FREE, Lock.MISSING]))
def test_nothing_of_our_own_is_given_away(evidence: Evidence, lock: Lock) -> None:
    ours = replace(evidence, recorded=HERE, locked=HERE, lock=lock)
    assert not is_elsewhere(ours, HERE)
    earlier = replace(HERE, boot_id="b0", pid_namespace="pid:[9]")
    assert not is_elsewhere(replace(ours, recorded=earlier, locked=earlier), HERE)


@given(evidences)
def test_another_s_free_lock_is_an_end_where_locks_are_seen_by_all(evidence: Evidence) -> None:
    free = replace(evidence, recorded=THERE, lock=Lock.FREE, proved=False)
    assert not is_elsewhere(replace(free, local=True), HERE)
    assert is_elsewhere(replace(free, local=False), HERE), "its lock may be lost, and it alive"


@given(evidences, st.sampled_from([*LIVE, State.BACKOFF, None]))
def test_without_a_lock_file_another_s_kernel_may_live(
    evidence: Evidence, state: State | None
) -> None:
    far = replace(evidence, recorded=THERE, lock=Lock.MISSING, proved=False, local=False)
    assert is_elsewhere(replace(far, state=state), HERE)


@given(evidences, st.sampled_from(AT_REST))
def test_what_another_left_at_rest_is_anybody_s(evidence: Evidence, state: State) -> None:
    rest = replace(evidence, recorded=THERE, lock=Lock.MISSING, state=state)
    assert not is_elsewhere(rest, HERE)


@pytest.mark.parametrize("state", [State.LAUNCHING, State.BACKOFF])
def test_what_never_locked_has_not_begun(state: State) -> None:
    evidence = Evidence(state, THERE, None, Lock.MISSING, proved=False, local=True)
    assert not is_elsewhere(evidence, HERE)
    older = replace(evidence, recorded=replace(THERE, pid_namespace=""))
    assert is_elsewhere(older, HERE), "older versions had their locks in another folder"


def test_containers_of_one_machine_differ_by_their_pids_alone() -> None:
    assert is_here(HERE, HERE)
    assert not is_here(replace(HERE, pid_namespace="pid:[2]"), HERE)
    assert not is_here(replace(HERE, host="there"), HERE)
    assert is_here(replace(HERE, pid_namespace=""), HERE), "an older version's record"
    assert is_here(replace(HERE, boot_id="b0", pid_namespace="pid:[2]"), HERE), "it was restarted"


def test_what_holds_the_lock_is_told_as_the_one_whose_kernel_it_is() -> None:
    evidence = Evidence(None, HERE, THERE, Lock.HELD, proved=False, local=True)
    assert choose_holder(evidence, HERE) == THERE
    assert choose_holder(replace(evidence, locked=HERE), HERE) == HERE
    far = replace(THERE, host="far")
    assert choose_holder(replace(evidence, recorded=far), HERE) == THERE
    assert choose_holder(replace(evidence, recorded=far, lock=Lock.FREE), HERE) == far
    assert choose_holder(replace(evidence, recorded=far, locked=HERE), HERE) == far, "not found"
    other = replace(HERE, machine="other")
    assert choose_holder(replace(evidence, recorded=other), HERE) == other
    assert choose_holder(replace(evidence, recorded=None, locked=None), HERE) is None


MOUNTS = r"""
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:40 / /home rw,relatime shared:2 - nfs4 server:/home rw,vers=4.2
31 30 0:41 / /home/me/with\040blank rw - tmpfs tmpfs rw
32 22 0:42 / /tmp rw - tmpfs tmpfs rw
33 32 0:43 / /tmp rw - overlay overlay rw
nonsense
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "ext4"),
        ("/homes", "ext4"),
        ("/home", "nfs4"),
        ("/home/me/.local", "nfs4"),
        ("/home/me/with blank/x", "tmpfs"),
        ("/tmp/x", "overlay"),
    ],
)
def test_which_kind_of_file_system_a_path_is_on(path: str, kind: str) -> None:
    assert file_system_of(MOUNTS.splitlines(), path) == kind
    assert file_system_of([], path) == ""
