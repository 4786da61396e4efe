"""The table of routes: the right that each needs, and the routes that it describes itself."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from kconnd.core.access import Peer, Right
from kconnd.core.names import derived_name
from kconnd.core.profile.model import Profile
from kconnd.daemon import kernels as kernels_module
from kconnd.daemon.api import commands, routes
from kconnd.errors import NoSuchKernelError, RefusedError
from kconnd.system.http.route_table import Route
from kconnd.system.profiles.faults import Fault
from tests.daemon.fakes import LAB, OWNER, STRANGER, House, house_in

SHARED = Profile(name="shared", kernel="k", access={"see": [STRANGER.name]})
ONE = "/v1/kernels/{name}"
CPP = derived_name("c++ 17")
RIGHTS = {
    ("GET", "/v1/health"): Right.SEE,
    ("GET", "/v1/openapi.json"): Right.SEE,
    ("GET", "/v1/profiles"): Right.MANAGE,
    ("POST", "/v1/reload"): Right.MANAGE,
    ("GET", "/v1/events"): Right.CONNECT,
    ("GET", "/v1/kernels"): Right.SEE,
    ("GET", ONE): Right.SEE,
    ("GET", f"{ONE}/connection"): Right.CONNECT,
    ("GET", f"{ONE}/why"): Right.SEE,
    ("GET", f"{ONE}/logs"): Right.CONNECT,
    ("GET", f"{ONE}/wait"): Right.SEE,
    ("POST", f"{ONE}/start"): Right.CONNECT,
    ("POST", f"{ONE}/notebook"): Right.MANAGE,
    ("POST", f"{ONE}/stop"): Right.MANAGE,
    ("POST", f"{ONE}/restart"): Right.MANAGE,
    ("GET", f"{ONE}/qtconsole"): Right.CONNECT,
    ("POST", f"{ONE}/qtconsole"): Right.CONNECT,
    ("POST", f"{ONE}/interrupt"): Right.CONNECT,
    ("POST", f"{ONE}/signal"): Right.MANAGE,
    ("POST", f"{ONE}/probe"): Right.MANAGE,
}


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with house_in(tmp_path, LAB, SHARED) as house:
        yield house


def route(path: str) -> Route:
    return next(route for route in routes.ROUTES if route.path == path)


def test_each_route_needs_its_right() -> None:
    """The table of `configs/README.md`: a key is disclosed only to those who may connect."""
    assert {(route.method, route.path): route.right for route in routes.ROUTES} == RIGHTS


def test_streams_are_marked_and_only_the_daemons_own_description_is_returned_at_once() -> None:
    assert {route.path for route in routes.ROUTES if route.streams} == {
        "/v1/events",
        f"{ONE}/logs",
    }
    assert {route.path for route in routes.ROUTES if route.at_once} == {
        "/v1/health",
        "/v1/openapi.json",
    }


async def test_health_counts_what_the_peer_may_see(house: House) -> None:
    fault = Fault("bad.yaml", 1, 1, "", "wrong")
    house.hold(LAB, SHARED, faults=(fault,))
    await house.kernels.reload()
    house.kernels.find("shared")
    await commands.start(house.request("lab"))
    keys = ("kernels", "running", "faults", "ready", "socket")
    assert await _health(house, OWNER, keys) == (2, 1, 1, False, "/s")
    assert await _health(house, STRANGER, keys) == (1, 0, 0, False, "/s")


async def _health(house: House, peer: Peer, keys: tuple[str, ...]) -> tuple[object, ...]:
    reply = await routes.health(house.request(peer=peer))
    assert isinstance(reply, Mapping)
    return tuple(reply[key] for key in keys)


async def test_no_reply_denies_a_kernel_before_the_adoption_is_over(house: House) -> None:
    await routes.get_ready(house.kernels, route("/v1/health"), OWNER, "")
    waiting = asyncio.create_task(routes.get_ready(house.kernels, route(ONE), OWNER, "lab"))
    await asyncio.sleep(0)
    assert not waiting.done()
    house.kernels.adopted.set()
    await waiting


@pytest.mark.parametrize("peer", [OWNER, STRANGER])
async def test_no_reply_denies_a_kernel_before_its_profile_is_read(
    house: House, peer: Peer
) -> None:
    house.kernels.adopted.set()
    house.kernels.up_to_date.clear()
    async with asyncio.timeout(kernels_module.UP_TO_DATE_TIMEOUT_S / 2):
        for name in ("lab", "not/a name"):  # for which no changed profile matters
            assert await routes.get_ready(house.kernels, route(ONE), peer, name) == name
    waiting = asyncio.create_task(routes.get_ready(house.kernels, route(ONE), peer, "new"))
    await asyncio.wait({waiting}, timeout=0.1)
    assert not waiting.done()
    house.kernels.up_to_date.set()
    await waiting


async def test_a_request_does_not_wait_for_ever_for_profiles_that_go_on_changing(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels_module, "UP_TO_DATE_TIMEOUT_S", 0.01)
    house.kernels.adopted.set()
    house.kernels.up_to_date.clear()
    await routes.get_ready(house.kernels, route(ONE), OWNER, "new")


@pytest.mark.parametrize(("peer", "scans"), [(OWNER, 1), (STRANGER, 0)])
async def test_only_those_who_manage_make_the_daemon_search_the_disk(
    house: House, peer: Peer, scans: int
) -> None:
    scanned: list[object] = []

    def scan(begin: object) -> dict[str, Path]:
        scanned.append(begin)
        return {}

    house.kernels.catalog._scan = scan
    house.kernels.adopted.set()
    await routes.get_ready(house.kernels, route(ONE), peer, "unknown")
    assert len(scanned) == scans


async def test_jupyters_name_of_a_kernel_spec_becomes_the_derived_name(house: House) -> None:
    house.kernels.catalog._scan = lambda _begin: {"c++ 17": Path("/k/C++ 17")}
    house.kernels.adopted.set()
    house.kernels.up_to_date.clear()  # no profile can have such a name, so there is no wait
    async with asyncio.timeout(kernels_module.UP_TO_DATE_TIMEOUT_S / 2):
        for name in ("C++ 17", "c++ 17", CPP):
            assert await routes.get_ready(house.kernels, route(ONE), OWNER, name) == CPP
    with pytest.raises(NoSuchKernelError, match=r"there is no kernel 'C\+\+ 18'") as caught:
        await routes.get_ready(house.kernels, route(ONE), OWNER, "C++ 18")
    assert caught.value.hint == f"did you mean 'c++ 17', which is started as {CPP}?"


async def test_a_stranger_does_not_learn_which_kernel_specs_are_installed(house: House) -> None:
    """Every name leads to the same refusal, so each name is derived alike."""
    house.kernels.adopted.set()
    house.kernels.catalog._scan = lambda _begin: {"c++ 17": Path("/k/C++ 17")}
    for name in ("C++ 17", "C++ 18"):
        ready = await routes.get_ready(house.kernels, route(ONE), STRANGER, name)
        assert ready == derived_name(name)
        with pytest.raises(RefusedError, match=f"may not see {ready} of"):
            house.request(ready, peer=STRANGER).authorise(Right.SEE)


async def test_a_reload_replies_with_the_difference_and_the_faults(house: House) -> None:
    changed = SHARED.model_copy(update={"cwd": "/tmp"})
    house.hold(changed, LAB.model_copy(update={"name": "new"}))
    reply = await routes.reload(house.request())
    assert reply == {
        "added": ["new"],
        "changed": ["shared"],
        "removed": ["lab"],
        "unchanged": 0,
        "faults": [],
    }


async def test_the_openapi_document_has_every_path(house: House) -> None:
    reply = await routes.openapi(house.request())
    assert isinstance(reply, Mapping)
    assert set(reply["paths"]) == {route.path for route in routes.ROUTES}
