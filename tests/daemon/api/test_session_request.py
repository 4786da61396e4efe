"""The session in a request: only the owner's is used, and the record keeps it for restarts."""

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from kconnd.core.access import Peer
from kconnd.core.kernel.lifecycle import State
from kconnd.core.launch.session import MAX_SESSION_BYTES, Session
from kconnd.core.profile.model import Access
from kconnd.daemon.api import commands
from kconnd.errors import SessionWantedError, UsageError
from tests.daemon.fakes import LAB, OWNER, STRANGER, House, house_in

SESSION = {"path": "/opt/bin:/bin", "umask": 0o027, "variables": {"LANG": "de_DE.UTF-8"}}
SHARED = LAB.model_copy(update={"access": Access(manage=("eve",))})
PASSING = LAB.model_copy(update={"name": "passing", "pass_env": ("TMPDIR", "KRB5CCNAME", "LANG")})


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with house_in(tmp_path, SHARED, PASSING) as house:
        yield house


async def request(
    house: House, verb: str, name: str = "lab", peer: Peer = OWNER, session: Any = None
) -> None:
    body = {} if session is None else {"session": session}
    await getattr(commands, verb)(house.request(name, peer=peer, body=body))


def kept(house: House, name: str = "lab") -> Session | None:
    """Return the session in the record on disk."""
    session = house.kernels.find(name).record.session
    assert house.world.store.read(name).session == session
    return session


async def test_the_record_keeps_the_owner_s_session_with_its_origin(house: House) -> None:
    await request(house, "start", session={**SESSION, "client": "login", "pid": 1, "time": 2.0})
    session = kept(house)
    assert session is not None
    assert (session.path, session.umask) == ("/opt/bin:/bin", 0o027)
    assert session.variables == {"LANG": "de_DE.UTF-8"}
    assert (session.client, session.pid) != ("login", 1)
    assert session.pid == OWNER.pid
    assert session.time == house.world.wall_clock()


@pytest.mark.parametrize("peer", [STRANGER, Peer(0 if OWNER.uid else 1, 7, "root")])
async def test_the_session_of_another_user_is_not_even_read(house: House, peer: Peer) -> None:
    for bad in (SESSION, {"umask": "x"}, "x"):
        await request(house, "start", peer=peer, session=bad)
        assert kept(house) is None
        await request(house, "stop")
    await request(house, "start", session=SESSION)
    before = kept(house)
    await request(house, "restart", peer=peer, session={"path": "/evil"})
    assert kept(house) == before
    await request(house, "start", "passing", peer=OWNER)
    await request(house, "restart", "passing", peer=peer, session={"path": "/evil"})
    assert kept(house, "passing") is None


async def test_a_restart_takes_the_session_of_its_request_or_keeps_the_last(house: House) -> None:
    await request(house, "start", session=SESSION)
    first = kept(house)
    await request(house, "restart")
    assert kept(house) == first
    await request(house, "stop")
    await request(house, "start")
    assert kept(house) == first
    await request(house, "restart", session={"path": "/usr/bin"})
    assert (kept(house) or Session()).path == "/usr/bin"


async def test_a_start_of_a_running_kernel_changes_no_session(house: House) -> None:
    await request(house, "start", session=SESSION)
    first = kept(house)
    await request(house, "start", session={"path": "/usr/bin"})
    await request(house, "start", session={"path": 5})
    assert kept(house) == first


async def test_an_invalid_session_is_refused_and_nothing_starts(house: House) -> None:
    bad: Mapping[str, Any]
    for bad in (
        {"variables": {"LANG": "a\0b"}},
        {"variables": {"KCONND_KERNEL": "x"}},
        {"variables": {"LC_ALL": "x" * MAX_SESSION_BYTES}},
    ):
        with pytest.raises(UsageError, match=r"starting lab: session"):
            await request(house, "start", session=bad)
    assert house.kernels.find("lab").kernel.state is State.STOPPED


async def test_the_names_of_pass_env_are_requested_from_clients_that_send_a_session(
    house: House,
) -> None:
    with pytest.raises(SessionWantedError, match="passes KRB5CCNAME, TMPDIR") as caught:
        await request(house, "start", "passing", session=SESSION)
    assert caught.value.names == ("KRB5CCNAME", "TMPDIR")
    assert house.launcher.launched == []
    complete = {**SESSION, "variables": {"TMPDIR": "/t"}, "requested": ["TMPDIR", "KRB5CCNAME"]}
    await request(house, "start", "passing", session=complete)
    assert (kept(house, "passing") or Session()).variables == {"TMPDIR": "/t"}
    await request(house, "stop", "passing")
    await request(house, "start", "passing")  # by an older client, which sends no session
    assert len(house.launcher.launched) == 2
