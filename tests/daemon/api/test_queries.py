"""Routes that read: what each peer sees, and when a wait ends."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kconnd.core.kernel import silence
from kconnd.core.kernel.record import KernelRecord
from kconnd.core.profile.model import Profile
from kconnd.daemon.api import commands, queries
from kconnd.daemon.kernel import monitor
from kconnd.daemon.kernel.claims import Foreign
from kconnd.errors import NotRunningError, TimedOutError, UsageError
from kconnd.system.http.route_table import Reply
from kconnd.system.profiles.faults import Fault
from tests.conftest import wait_until
from tests.daemon.fakes import LAB, STRANGER, House, house_in

SHARED = LAB.model_copy(
    update={
        "name": "shared",
        "access": Profile(name="shared", kernel="k", access={"connect": [STRANGER.name]}).access,
    }
)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with house_in(tmp_path, LAB, SHARED) as house:
        yield house


async def lines_of(reply: Reply) -> list[Mapping[str, Any]]:
    assert isinstance(reply, AsyncIterator)
    return [line async for line in reply]


def fields_of(reply: Reply) -> Mapping[str, Any]:
    assert isinstance(reply, Mapping)
    return reply


async def test_events_are_sent_to_those_who_may_connect(house: House) -> None:
    for name in ("lab", "shared"):
        house.world.announce(name, "running", "")
    kernels = [line["kernel"] for line in await lines_of(await queries.events(house.request()))]
    assert kernels == ["lab", "shared"]
    request = house.request(peer=STRANGER)
    assert [line["kernel"] for line in await lines_of(await queries.events(request))] == ["shared"]
    request = house.request(query={"kernel": "lab"})
    assert [line["kernel"] for line in await lines_of(await queries.events(request))] == ["lab"]


async def test_kernels_are_listed_to_those_who_may_see_them(house: House) -> None:
    for name in ("lab", "shared"):
        house.kernels.find(name)
    rows = fields_of(await queries.kernels_(house.request()))["kernels"]
    assert [row["name"] for row in rows] == ["lab", "shared"]
    rows = fields_of(await queries.kernels_(house.request(peer=STRANGER)))["kernels"]
    assert [row["name"] for row in rows] == ["shared"]


async def test_the_shared_kernels_of_others_are_named_to_the_owner_alone(house: House) -> None:
    house.loaded = replace(house.loaded, elsewhere={"x": "ada"}, shared={"x": "ada"})
    await house.kernels.reload()
    own = await queries.kernels_(house.request())
    other = await queries.kernels_(house.request(peer=STRANGER))
    assert isinstance(own, dict)
    assert isinstance(other, dict)
    assert own["shared"] == [{"name": "x", "owner": "ada"}]
    assert other["shared"] == []


async def test_the_owner_sees_how_many_profiles_have_faults(house: House) -> None:
    house.hold(
        LAB,
        SHARED,
        faults=(
            Fault("a.yaml", 1, 1, "", "x", "", "a"),
            Fault("a.yaml", 2, 1, "", "y", "", "a"),
            Fault("b.yaml", 1, 1, "", "not YAML"),
        ),
    )
    await house.kernels.reload()
    assert fields_of(await queries.kernels_(house.request()))["faulty_profiles"] == 2
    reply = fields_of(await queries.kernels_(house.request(peer=STRANGER)))
    assert reply["faulty_profiles"] == 0


async def test_kernel_specs_without_a_kernel_are_listed_to_the_owner_who_asks(
    house: House, tmp_path: Path
) -> None:
    folders = {}
    for name, argv in (("lab", ["x"]), ("cat", ["/bin/cat", "{connection_file}"]), ("bad", [])):
        folders[name] = tmp_path / name
        folders[name].mkdir()
        content = {"argv": argv, "display_name": name.title(), "language": "x"}
        (folders[name] / "kernel.json").write_text(json.dumps(content))
    house.kernels.catalog._scan = lambda _begin: folders
    await house.kernels.reload()
    asking = {"startable": "1"}
    rows = fields_of(await queries.kernels_(house.request(query=asking)))["startable"]
    assert [row["name"] for row in rows] == ["bad", "cat"], "lab is a profile"
    assert "argv is not a list of text" in rows[0]["error"]
    assert rows[1] == {
        "name": "cat",
        "kernel_spec": "cat",
        "jupyter_name": None,
        "display_name": "Cat",
        "argv": ["/bin/cat", "{connection_file}"],
        "error": "",
    }
    for request in (house.request(), house.request(peer=STRANGER, query=asking)):
        assert "startable" not in fields_of(await queries.kernels_(request))
    await commands.start(house.request("cat", body={"wait": False}))
    rows = fields_of(await queries.kernels_(house.request(query=asking)))["startable"]
    assert [row["name"] for row in rows] == ["bad"]


async def test_a_kernel_spec_without_a_runnable_program_is_listed_with_the_reason(
    house: House, tmp_path: Path
) -> None:
    script = tmp_path / "start.sh"
    script.write_text("#!/bin/sh\n", encoding="utf-8")
    folders = {}
    for name, word in (("closed", str(script)), ("gone", str(tmp_path / "gone.sh"))):
        folders[name] = tmp_path / name
        folders[name].mkdir()
        content = {"argv": [word, "{connection_file}"], "display_name": name, "language": "x"}
        (folders[name] / "kernel.json").write_text(json.dumps(content))
    house.kernels.catalog._scan = lambda _begin: folders
    await house.kernels.reload()
    rows = fields_of(await queries.kernels_(house.request(query={"startable": "1"})))["startable"]
    assert [row["error"] for row in rows] == [
        f"running {script}: it exists, but it is not executable (it has no x bit)",
        f"running {tmp_path}/gone.sh: there is no such program",
    ]


async def test_profiles_of_foreign_kernels_are_not_listed(house: House) -> None:
    house.kernels.foreign["lab"] = Foreign(KernelRecord("lab"), locked=True, here=False)
    rows = fields_of(await queries.profiles(house.request()))["profiles"]
    assert [(row["name"], row["file"]) for row in rows] == [("shared", "shared.yaml")]


async def test_one_profile_is_returned_by_its_name(house: House) -> None:
    request = house.request(query={"kernel": "lab"})
    rows = fields_of(await queries.profiles(request))["profiles"]
    assert [row["name"] for row in rows] == ["lab"]


async def test_a_log_is_read_from_its_last_lines(house: House) -> None:
    log = house.kernels.find("lab").process.runtime.log
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("one\ntwo\nthree\n", encoding="utf-8")
    request = house.request("lab", query={"lines": "2"})
    assert await lines_of(await queries.logs(request)) == [{"text": "two\nthree\n"}]


async def test_the_connection_of_a_live_kernel_is_returned_with_its_key(house: House) -> None:
    with pytest.raises(NotRunningError, match="returning the connection of lab: it is stopped"):
        await queries.connection(house.request("lab"))
    await commands.start(house.request("lab"))
    connection = house.kernels.find("lab").record.connection
    assert connection is not None
    reply = fields_of(await queries.connection(house.request("lab")))
    assert reply["key"] == connection.key


async def test_the_decisions_about_a_kernel_are_listed_with_their_reasons(house: House) -> None:
    await commands.start(house.request("lab"))
    decisions = fields_of(await queries.why(house.request("lab")))["decisions"]
    assert [decision["what"] for decision in decisions] == [
        "stopped → launching",
        "launching → starting",
        "starting → running",
    ]
    assert all(decision["reason"] for decision in decisions)


async def test_a_wait_ends_with_the_state_that_it_names(house: House) -> None:
    ready = asyncio.create_task(_wait(house, "ready"))
    await commands.start(house.request("lab"))
    assert await ready == "running"
    stopped = asyncio.create_task(_wait(house, "stopped"))
    await commands.stop(house.request("lab"))
    assert await stopped == "stopped"


async def test_a_wait_for_a_stop_ends_with_a_failure(house: House) -> None:
    house.hold(Profile(name="bad", argv=("no-such", "{connection_file}"), restart={"policy": "no"}))
    await house.kernels.reload()
    await commands.start(house.request("bad", body={"wait": False}))
    actor = house.kernels.find("bad")
    await wait_until(lambda: actor.kernel.state == "failed", "the start to fail")
    assert await _wait(house, "stopped", name="bad") == "failed"


async def _wait(house: House, goal: str, name: str = "lab") -> object:
    request = house.request(name, query={"for": goal, "timeout": "20"})
    return fields_of(await queries.wait(request))["state"]


async def test_a_wait_times_out(house: House) -> None:
    request = house.request("lab", query={"timeout": "0"})
    with pytest.raises(TimedOutError, match="waiting for lab to be ready: it is stopped after 0 s"):
        await queries.wait(request)


async def test_a_wait_for_another_state_is_refused(house: House) -> None:
    with pytest.raises(UsageError, match="'busy' is not one of ready, stopped"):
        await queries.wait(house.request("lab", query={"for": "busy"}))


async def test_a_look_at_a_kernel_checks_whether_it_answers(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monitor, "MAX_PROOF_AGE_S", 0.0)
    await commands.start(house.request("lab"))
    channels = house.channels[-1]
    channels.asked.clear()
    await queries.info(house.request("lab"))
    assert channels.asked == [], "programs ask often"
    await queries.info(house.request("lab", query={"check": "1"}))
    assert channels.asked == ["shell"]
    channels.silent = {"shell"}
    for module in (monitor, silence):
        monkeypatch.setattr(module, "SILENT_AFTER_S", 0.05)
    reply = fields_of(await queries.info(house.request("lab", query={"check": "1"})))
    assert "has not answered on its shell channel" in reply["unanswered"]
    assert (reply["execution_state"], reply["heartbeat"]["state"]) == ("unknown", "alive")
