"""The session with which warm kernels are made: the latest of the profile, or of any profile."""

from kconnd.core.launch.session import Session
from kconnd.daemon.last_sessions import LastSessions

FIRST, SECOND = Session(path="/a", time=1.0), Session(path="/b", time=2.0)


def test_the_latest_launch_of_a_profile_counts_and_else_that_of_any_profile() -> None:
    sessions = LastSessions()
    assert sessions.find("lab") is None
    assert sessions.keep("lab@one", FIRST)
    assert sessions.find("lab") == sessions.find("lab@two") == sessions.find("other") == FIRST
    assert sessions.keep("lab", SECOND)
    assert sessions.find("lab@one") == SECOND


def test_a_launch_from_an_equal_session_changes_nothing() -> None:
    sessions = LastSessions()
    sessions.keep("lab", FIRST)
    assert not sessions.keep("lab", Session(path="/a", client="jupyter-lab", pid=7, time=9.0))
    assert sessions.keep("lab", Session(path="/a", umask=0o077))


def test_launches_without_a_session_are_like_each_other() -> None:
    sessions = LastSessions()
    assert not sessions.keep("lab", None)
    sessions.keep("other", FIRST)
    assert sessions.find("lab") is None
    assert sessions.keep("new", None), "its warm kernels were made with the session of 'other'"
    assert sessions.find("new") is None


def test_the_latest_session_of_the_records_counts_at_the_start_of_the_daemon() -> None:
    for order in ((FIRST, SECOND, None), (None, SECOND, FIRST)):
        sessions = LastSessions()
        for number, session in enumerate(order):
            sessions.restore(f"lab@{number}", session)
        assert sessions.find("lab") == sessions.find("other") == SECOND
