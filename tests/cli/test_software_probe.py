"""``kconnd-ctl kernelspec probe`` against the fake daemon."""

from typing import Any

import pytest

from kconnd.errors import NoSuchKernelError, UsageError
from tests.cli.conftest import Ctl
from tests.cli.fake_daemon import FakeDaemon

REPLY: dict[str, Any] = {
    "name": "lab",
    "implementation": "xeus-python",
    "implementation_version": "0.19.0",
    "language": "python",
    "interrupt_mode": "signal",
    "probed_at": "2026-11-30T12:00:00Z",
    "took_s": 11.6,
    "facts": [
        {"fact": "curve", "meaning": "encrypts", "value": False, "evidence": "it\x1b does not"},
        {"fact": "seconds_to_start", "meaning": "seconds", "value": 0.25, "evidence": "tcp"},
        {"fact": "unix_sockets", "meaning": "binds", "value": True, "evidence": "it answered"},
        {"fact": "heartbeat_busy", "meaning": "answers", "value": None, "evidence": "not tested"},
    ],
}
TABLE = """\
lab: xeus-python 0.19.0, probed 2026-11-30T12:00:00Z in 12 s; its kernel.json says interrupt_mode \
signal
FACT           EVIDENCE
encrypts  no   it? does not
seconds   0.2  tcp
binds     yes  it answered
answers   -    not tested

The next start uses these facts. kconnd-ctl kernelspec probe lab --forget drops them.
"""


@pytest.fixture
def path(daemon: FakeDaemon) -> str:
    daemon.replies["POST", "/v1/kernels/lab/probe"] = REPLY
    return "/v1/kernels/lab/probe"


def test_the_facts_are_a_table(ctl: Ctl, daemon: FakeDaemon, path: str) -> None:
    outcome = ctl("kernelspec", "probe", "lab")
    assert (outcome.code, outcome.out) == (0, TABLE)
    assert "on kernels of its own" in outcome.err
    assert [(one.path, one.body) for one in daemon.requests] == [(path, {"forget": False})]


def test_several_are_probed_and_a_failure_is_told(ctl: Ctl, path: str) -> None:
    outcome = ctl("kernelspec", "probe", "nosuch", "lab", "lab", "--json")
    assert outcome.code == NoSuchKernelError.exit_code
    reply = outcome.json()
    assert reply["probed"] == [REPLY]
    assert [error["name"] for error in reply["errors"]] == ["nosuch"]
    assert path


@pytest.mark.parametrize(
    ("forgotten", "text"),
    [(True, "lab: what was learned is dropped\n"), (False, "lab: nothing was learned of it\n")],
)
def test_forget_drops_the_facts(
    ctl: Ctl, daemon: FakeDaemon, path: str, *, forgotten: bool, text: str
) -> None:
    daemon.replies["POST", path] = {"name": "lab", "forgotten": forgotten}
    outcome = ctl("kernelspec", "probe", "--forget", "lab")
    assert (outcome.code, outcome.out, outcome.err) == (0, text, "")
    assert daemon.requests[0].body == {"forget": True}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["probe"], "kernelspec probe: PROFILE is missing"),
        (["probe", "lab", "--all"], "kernelspec probe: --all is an option of install"),
        (["probe", "lab", "--prefix", "/x"], "kernelspec probe: --prefix is an option of install"),
        (["list", "--forget"], "kernelspec list: --forget is an option of probe"),
    ],
)
def test_an_option_of_another_action_is_refused(
    ctl: Ctl, daemon: FakeDaemon, words: list[str], message: str
) -> None:
    outcome = ctl("kernelspec", *words)
    assert outcome.code == UsageError.exit_code
    assert message in outcome.err
    assert not daemon.requests
