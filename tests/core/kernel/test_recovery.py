"""What a new daemon makes of what it finds: rule by rule, and what holds whatever it finds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kconnd.core.kernel.events import (
    Adopted,
    Discovered,
    Event,
    Exited,
    Launch,
    MachineRestarted,
    NeverLaunched,
    TakeStep,
)
from kconnd.core.kernel.lifecycle import LIVE, Desired, Lifecycle, Policy, State
from kconnd.core.kernel.recovery import recover
from kconnd.core.kernel.transitions import decide


def after(
    state: State,
    *,
    launch: int | None = None,
    alive: bool = False,
    forgotten: bool = False,
    rebooted: bool = False,
) -> Event | None:
    return recover(
        Lifecycle(state=state, generation=3),
        launch=launch,
        alive=alive,
        forgotten=forgotten,
        rebooted=rebooted,
    )


@pytest.mark.parametrize("state", sorted(LIVE))
def test_the_process_on_record(state: State) -> None:
    assert after(state, launch=3, alive=True) == Adopted(3)
    assert after(state, launch=3) is None, "watching it tells how it ended"


@pytest.mark.parametrize("state", State)
def test_a_process_that_is_not_on_record_is_taken_up(state: State) -> None:
    assert after(state, launch=9, alive=True) == Discovered(9)


def test_a_lost_record_of_a_process_that_ended_meanwhile() -> None:
    assert after(State.STOPPED, launch=9, forgotten=True) == Discovered(9)
    assert after(State.STOPPED, launch=9) is None
    assert after(State.STOPPED, forgotten=True) is None


def test_a_daemon_that_died_between_deciding_and_launching() -> None:
    assert after(State.LAUNCHING) == NeverLaunched(3)
    assert after(State.LAUNCHING, launch=2) == NeverLaunched(3)


@pytest.mark.parametrize("state", sorted(LIVE - {State.LAUNCHING}))
def test_a_process_of_which_nothing_is_left(state: State) -> None:
    event = after(state)
    assert isinstance(event, Exited)
    assert event.lost


@pytest.mark.parametrize("state", sorted({*LIVE, State.BACKOFF}))
def test_after_a_reboot(state: State) -> None:
    assert after(state, rebooted=True) == MachineRestarted(3)


def test_a_wait_goes_on() -> None:
    assert after(State.BACKOFF) == Adopted(3)
    assert after(State.BACKOFF, launch=3) == Adopted(3)


@pytest.mark.parametrize("state", sorted({State.STOPPED, State.FAILED, State.LOST}))
def test_what_is_down_stays_down(state: State) -> None:
    assert after(state) is None
    assert after(state, rebooted=True) is None


@given(
    st.builds(
        Lifecycle,
        state=st.sampled_from(State),
        desired=st.sampled_from(Desired),
        generation=st.integers(0, 5),
    ),
    st.none() | st.integers(0, 5),
    st.tuples(st.booleans(), st.booleans(), st.booleans()),
)
def test_recovery_ends_nothing_and_never_makes_a_second_process(
    kernel: Lifecycle, launch: int | None, flags: tuple[bool, bool, bool]
) -> None:
    alive, forgotten, rebooted = flags[0] and launch is not None, *flags[1:]
    event = recover(kernel, launch=launch, alive=alive, forgotten=forgotten, rebooted=rebooted)
    if event is None:
        return
    then, commands = decide(kernel, event, Policy(), 0.0)
    if alive:
        assert then.generation == launch, "the process that lives is the kernel's"
        assert not any(isinstance(command, Launch) for command in commands)
        early = kernel.state in {State.LAUNCHING, State.STARTING}
        if kernel.state is not State.STOPPING and not (early and kernel.desired is Desired.DOWN):
            assert not any(isinstance(command, TakeStep) for command in commands)
    if rebooted and launch is None:
        assert commands == () or not isinstance(commands[0], Launch)
