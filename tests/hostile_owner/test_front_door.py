"""``list --all-users`` with a hostile owner: the front door queries every owner's daemon."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kconnd.cli.main import main
from kconnd.core.access import Peer
from kconnd.front.front_routes import kernels
from tests.cli.fake_daemon import Raw, kernel
from tests.front.fake import FakeSystemd, build_owners, request_of
from tests.hostile_owner.machine import ADA, EVE, NAME, TIMES, Machine, uid_of
from tests.hostile_owner.replies import (
    KERNEL,
    errors,
    fields_of,
    framed,
    spoiled,
    values,
)
from tests.hostile_owner.test_verbs import check_printed

HERS = {"kernels": [kernel("good"), KERNEL]}


@st.composite
def hostile_lists(draw: st.DrawFn, folder: str) -> Raw:
    """Draw a hostile owner's list of kernels."""
    kind = draw(st.sampled_from(["fields", "fields", "fields", "rows", "error", "junk", "bytes"]))
    if kind == "bytes":
        return Raw((draw(st.binary(max_size=300)),))
    if kind == "junk":
        return framed(draw(values(folder)))
    if kind == "error":
        return framed({"error": draw(errors(folder))}, 500)
    if kind == "rows":
        return framed({"kernels": draw(values(folder) | st.lists(values(folder)))})
    row: dict[str, Any] = KERNEL
    for field in draw(st.lists(st.sampled_from(fields_of(KERNEL)), min_size=1, max_size=3)):
        row = spoiled(row, field, draw(values(folder)))
    return framed({"kernels": [row], "owner": draw(values(folder))})


async def everybodys(machine: Machine) -> Any:
    """List all users' kernels with the real front door."""
    uids = (uid_of(EVE), uid_of(ADA))
    systemd = FakeSystemd({f"kconnd@{uid}.service": "active" for uid in uids})
    owners = build_owners(machine.folder, systemd=systemd)
    return await kernels(request_of(owners, Peer(0, 7, "root")))


@settings(
    max_examples=60 * TIMES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
async def test_of_a_hostile_list_sound_rows_of_that_owner_are_shown(
    machine: Machine, data: st.DataObject, capfd: pytest.CaptureFixture[str]
) -> None:
    machine.clear()
    machine.ada.replies["GET", "/v1/kernels"] = HERS
    machine.eve.replies["GET", "/v1/kernels"] = data.draw(hostile_lists(str(machine.folder)))
    with machine.watched() as seen:
        reply = await everybodys(machine)
    assert set(seen.connected) == {str(machine.eve.path), str(machine.ada.path)}
    assert machine.eve.asked() == machine.ada.asked() == [("GET", "/v1/kernels")]
    assert machine.own.requests == machine.front.requests == []
    names = [(one["owner"], one["name"]) for one in reply["kernels"]]
    assert [name for owner, name in names if owner == ADA] == ["good", NAME]
    assert {owner for owner, _ in names} <= {ADA, EVE}
    for one in reply["errors"]:
        assert one["uid"] == uid_of(EVE)
        assert str(machine.folder / "s") in one["message"] or "sent no list" in one["message"]
    machine.front.replies["GET", "/v1/kernels"] = json.loads(json.dumps(reply, allow_nan=False))
    capfd.readouterr()
    assert main(["list", "--all-users"]) == 0
    out, err = capfd.readouterr()
    check_printed(out + err, 10_000)
    assert len(out.splitlines()) == 1 + len(names)


async def test_a_list_opens_no_path_of_an_owner(machine: Machine, tmp_path: Path) -> None:
    bait = tmp_path / "bait"
    row = {**kernel(NAME), "connection_file": str(bait), "log_file": str(bait)}
    machine.eve.replies["GET", "/v1/kernels"] = {"kernels": [row]}
    machine.ada.replies["GET", "/v1/kernels"] = HERS
    with machine.watched() as seen:
        reply = await everybodys(machine)
    assert (EVE, NAME) in [(one["owner"], one["name"]) for one in reply["kernels"]]
    assert [path for path in seen.opened if "bait" in path] == []
