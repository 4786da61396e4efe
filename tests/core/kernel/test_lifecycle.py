"""The states of a kernel that have a process."""

from kconnd.core.kernel.events import Exited
from kconnd.core.kernel.lifecycle import LIVE
from kconnd.core.kernel.transitions import TABLE


def test_the_states_with_a_process_are_those_in_which_it_can_exit() -> None:
    assert {state for state, event in TABLE if event is Exited} == LIVE
