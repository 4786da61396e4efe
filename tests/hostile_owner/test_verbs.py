"""Each verb of kconnd-ctl, on a kernel of a hostile owner.

Whatever the owner's daemon replies, the verb ends with a documented exit status and prints bounded
text without control characters. The front door receives one request to open the owner's socket; no
other socket receives anything, and no file that the reply names is opened. No process of the owner
listens here, so the client refuses every connection that her daemon sends, and writes no copy.
"""

import json
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kconnd.cli import kernel_list
from kconnd.cli.kernel_list import MAX_SHARING_ROWS
from kconnd.cli.main import main
from kconnd.core.terminal_text import is_colour
from kconnd.errors import KconndError, RefusedError, UsageError
from tests.cli.fake_daemon import FakeDaemon, Raw
from tests.hostile_owner.machine import EVE, ME, NAME, TIMES, Machine, Recorder, uid_of
from tests.hostile_owner.replies import (
    CANARY,
    SOUND,
    fields_of,
    framed,
    hostile_replies,
    spoiled,
    worst,
)

ROOT = Path(__file__).parents[2]
WHO = f"{EVE}/{NAME}"
MAX_PRINTED_CHARS = 80_000  # of what is not a log
CODES = {0, 1, 2, 3, 4, 5, 6}
# What is typed, and the routes that it asks for.
VERBS: dict[str, tuple[list[str], tuple[str, ...]]] = {
    "info": (["info", WHO], ("",)),
    "info --json": (["info", WHO, "--json"], ("",)),
    "info of two": (["info", WHO, f"{WHO}@x", "--json"], ("",)),
    "why": (["why", WHO], ("why",)),
    "wait": (["wait", WHO], ("wait",)),
    "logs": (["logs", WHO], ("logs",)),
    "connection": (["connection", WHO], ("connection",)),
    "start": (["start", WHO], ("start",)),
    "stop": (["stop", WHO, "--yes"], ("stop",)),
    "restart": (["restart", WHO], ("restart",)),
    "interrupt": (["interrupt", WHO], ("interrupt",)),
    "signal": (["signal", WHO, "-s", "USR1"], ("signal",)),
    "run": (["run", WHO, "-c", "1"], ("start", "connection")),
    "console": (["console", WHO, "--json"], ("start", "connection")),
    "qtconsole": (["qtconsole", WHO, "--json"], ("start", "connection")),
    "kernelspec": (["kernelspec", "install", WHO, "--prefix", "PREFIX"], ("",)),
}
POSTS = {"start", "stop", "restart", "interrupt", "signal"}


@pytest.fixture(name="baited")
def _baited(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """Give the machine, with the files that a client would open if it believed a path."""
    bait = machine.folder / CANARY
    (bait / "folder").mkdir(parents=True)
    (bait / "own.json").write_text(json.dumps(SOUND["connection"]), encoding="utf-8")
    (bait / "link.json").symlink_to(bait / "own.json")
    monkeypatch.setenv("HOME", str(machine.folder / "home"))
    with Recorder(bait / "ipc-1") as socket:
        yield machine
        assert socket.requests == []


def answer(eve: FakeDaemon, routes: tuple[str, ...], replies: list[Any]) -> None:
    for verb, reply in zip(routes, replies, strict=True):
        for name in (NAME, f"{NAME}@x"):
            path = f"/v1/kernels/{name}/{verb}".rstrip("/")
            eve.replies["POST" if verb in POSTS else "GET", path] = reply


def tree(folder: Path) -> dict[str, bytes]:
    """List the files below a folder, without sockets."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


@pytest.mark.timeout(600)
@pytest.mark.parametrize("case", VERBS)
@settings(
    max_examples=25 * TIMES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_nobody_else_sees_anything_of_a_hostile_reply(
    baited: Machine, case: str, data: st.DataObject, capfd: pytest.CaptureFixture[str]
) -> None:
    _, routes = VERBS[case]
    hostile = data.draw(st.integers(0, len(routes) - 1))
    reply = data.draw(hostile_replies(routes[hostile], str(baited.folder)))
    check_verb(baited, case, {routes[hostile]: reply}, capfd)


@pytest.mark.parametrize("case", ["info", "why", "logs", "console"])
def test_no_field_of_any_reply_does_any_harm(
    baited: Machine, case: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Try the most harmful values in each field, since Hypothesis may miss one."""
    for verb in VERBS[case][1]:
        for field in fields_of(SOUND[verb]):
            for value in worst(str(baited.folder)):
                check_verb(baited, case, {verb: framed(spoiled(SOUND[verb], field, value))}, capfd)


def check_verb(
    baited: Machine, case: str, replies: dict[str, Raw], capfd: pytest.CaptureFixture[str]
) -> None:
    """Run a verb on the hostile owner's kernel, and assert that nobody else received a request."""
    typed, routes = VERBS[case]
    baited.clear()
    answer(baited.eve, routes, [replies.get(verb) or framed(SOUND[verb]) for verb in routes])
    before = tree(baited.folder)
    capfd.readouterr()
    with baited.watched() as seen:
        code = main([word.replace("PREFIX", f"{baited.folder}/prefix") for word in typed])
    out, err = capfd.readouterr()
    assert code in CODES
    check_printed(out + err, 200_000 if case == "logs" else MAX_PRINTED_CHARS)
    check_sockets(baited, seen.connected, routes)
    check_files(baited, seen.opened, before, tree(baited.folder))


def check_printed(text: str, most: int) -> None:
    assert len(text) < most
    rest = re.sub(r"(?:\x1b\[|\x9b)([0-9;:]*)m", lambda it: "" if is_colour(it[1]) else it[0], text)
    assert not re.search(r"[^\t\n\r\x20-\x7e\xa0-\U0010ffff]", rest), ascii(rest[:200])


def check_sockets(machine: Machine, connected: list[str], routes: tuple[str, ...]) -> None:
    known = {str(one.path) for one in (machine.front, machine.own, machine.eve)}
    assert set(connected) <= known
    machine.bystanders_saw_nothing()
    assert machine.own.asked() in ([], [("GET", "/v1/health")], [("GET", "/v1/profiles")])
    machine.asked_for_eve(len(machine.eve.requests))
    asked = [path.removeprefix(f"/v1/kernels/{NAME}") for _, path in machine.eve.asked()]
    assert {one.removeprefix("@x").strip("/") for one in asked} <= set(routes)


def check_files(
    machine: Machine, opened: list[str], before: dict[str, bytes], after: dict[str, bytes]
) -> None:
    allowed = (
        *(sys.prefix, sys.base_prefix, str(ROOT), "/usr/lib/python3", "/proc/self/"),
        *(f"{machine.folder}/u/{ME}", f"{machine.folder}/prefix", f"{machine.folder}/front"),
    )
    strange = [path for path in opened if not path.startswith(allowed)]
    assert strange == []
    changed = {path for path in after if after[path] != before.get(path)}
    specs = {f"prefix/share/jupyter/kernels/kconnd-{EVE}-{NAME}/kernel.json"}
    assert changed <= specs
    assert set(before) <= set(after)


@pytest.fixture
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have ``list`` wait for other owners as long as a slow machine needs."""
    for name in ("SHARED_LIMIT_S", "SHARING_LIMIT_S"):
        monkeypatch.setattr(kernel_list, name, 30.0)


def list_shared(machine: Machine, *options: str) -> int:
    """List kernels, of which a profile of the machine names one of the hostile owner's."""
    shared = [{"name": NAME, "owner": EVE}, {"name": "gone", "owner": "no such user"}]
    machine.own.replies["GET", "/v1/kernels"] = {"kernels": [], "elsewhere": [], "shared": shared}
    return main(["list", *options])


@pytest.mark.usefixtures("_patient")
def test_list_shows_the_shared_kernels_of_other_owners(
    machine: Machine, capfd: pytest.CaptureFixture[str]
) -> None:
    rows = [{**SOUND[""], "name": name} for name in (NAME, f"{NAME}@x", "private")]
    machine.eve.replies["GET", "/v1/kernels"] = {"kernels": rows}
    assert list_shared(machine) == 0
    out, err = capfd.readouterr()
    assert [line.split()[0] for line in out.splitlines()[1:]] == [WHO, f"{WHO}@x"]
    assert "listing the kernels of no such user" in err
    assert list_shared(machine, "--json") == 0
    reply = json.loads(capfd.readouterr().out)
    assert [kernel["name"] for kernel in reply["shared"]] == [WHO, f"{WHO}@x"]
    assert reply["kernels"] == []
    asked = [("GET", "/v1/sharing"), ("POST", f"/v1/owners/{uid_of(EVE)}/open")]
    assert machine.front.asked() == asked * 2
    machine.bystanders_saw_nothing()


def list_sharing(machine: Machine, *options: str) -> int:
    """List kernels, of which the front door says that the hostile owner shares some."""
    machine.own.replies["GET", "/v1/kernels"] = {"kernels": [], "elsewhere": [], "shared": []}
    machine.front.replies["GET", "/v1/sharing"] = {"uids": [uid_of(EVE), 2_000_000_000]}
    return main(["list", *options])


@pytest.mark.usefixtures("_patient")
def test_list_shows_kernels_that_profiles_of_other_owners_share(
    machine: Machine, capfd: pytest.CaptureFixture[str]
) -> None:
    rows = [{**SOUND[""], "name": f"{NAME}@{number}"} for number in range(MAX_SHARING_ROWS + 1)]
    machine.eve.replies["GET", "/v1/kernels"] = {"kernels": rows}
    assert list_sharing(machine, "--json") == 0
    reply = json.loads(capfd.readouterr().out)
    expected = [f"{WHO}@{number}" for number in range(MAX_SHARING_ROWS)]
    assert [kernel["name"] for kernel in reply["shared"]] == expected
    assert reply["errors"] == []
    machine.bystanders_saw_nothing()
    # One that a profile of the machine names has no such limit.
    assert list_shared(machine, "--json") == 0
    reply = json.loads(capfd.readouterr().out)
    assert len(reply["shared"]) == len(rows)


NO_REPLY = f"kconnd-ctl: listing the kernels of {EVE}: the daemon of {EVE} gave no valid reply\n"


@pytest.mark.usefixtures("_patient")
@pytest.mark.parametrize(("kind", "printed"), [(RefusedError, ""), (UsageError, NO_REPLY)])
def test_list_repeats_nothing_that_the_daemon_of_a_sharing_owner_says(
    machine: Machine,
    capfd: pytest.CaptureFixture[str],
    kind: type[KconndError],
    printed: str,
) -> None:
    machine.eve.replies["GET", "/v1/kernels"] = kind("buy my kernels", hint="today")
    assert list_sharing(machine) == 0
    assert capfd.readouterr().err == printed


def test_a_sharing_owner_who_does_not_reply_delays_list_for_a_moment(
    machine: Machine, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel_list, "SHARING_LIMIT_S", 0.05)
    end, replied = threading.Event(), threading.Event()

    def reply_late(_: object) -> dict[str, object]:
        end.wait(10)
        replied.set()
        return {"kernels": []}

    machine.eve.replies["GET", "/v1/kernels"] = reply_late
    try:
        assert list_sharing(machine) == 0
        assert not replied.is_set()
    finally:
        end.set()
    assert capfd.readouterr().err == NO_REPLY


@settings(
    max_examples=25 * TIMES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_a_hostile_owner_keeps_nobody_from_listing_kernels(
    machine: Machine, data: st.DataObject, capfd: pytest.CaptureFixture[str]
) -> None:
    check_list(machine, data.draw(hostile_replies("", str(machine.folder))), capfd)


def test_no_field_of_a_hostile_list_does_any_harm(
    machine: Machine, capfd: pytest.CaptureFixture[str]
) -> None:
    for field in fields_of(SOUND[""]):
        for value in worst(str(machine.folder)):
            row = spoiled(SOUND[""], field, value)
            check_list(machine, framed({"kernels": [row]}), capfd)


def check_list(machine: Machine, reply: Raw, capfd: pytest.CaptureFixture[str]) -> None:
    machine.clear()
    machine.eve.replies["GET", "/v1/kernels"] = reply
    capfd.readouterr()
    assert list_shared(machine) == 0
    check_printed("".join(capfd.readouterr()), MAX_PRINTED_CHARS)
    machine.bystanders_saw_nothing()
