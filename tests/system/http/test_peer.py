"""The look-up of users: shared, limited in time, and repeated after its expiry."""

import os
import pwd
import socket
import threading
from collections.abc import Iterator

import pytest

from kconnd.core.access import Peer
from kconnd.errors import RefusedError
from kconnd.system.http.peer import Caller, UserDirectory, look_up_user, read_peer

STRANGER = Peer(os.geteuid() + 1, 7)


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Give an event that a hanging look-up waits for; it is set at the end."""
    event = threading.Event()
    yield event
    event.set()


def test_the_kernel_says_who_is_at_the_other_end() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert read_peer(ours) == Peer(os.geteuid(), os.getpid())


def test_root_has_its_name_and_an_unknown_uid_has_none() -> None:
    assert look_up_user(0)[0] == "root"
    assert look_up_user((1 << 32) - 2) == ("", frozenset())


def test_a_login_name_that_is_not_utf_8_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python decodes such a name to characters that can be neither sent nor encoded."""
    row = pwd.struct_passwd(("j\udcfcrgen", "x", 7, 7, "", "/", "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwuid", lambda _uid: row)
    with pytest.raises(OSError, match=r"uid 7 is not UTF-8: 'j\\udcfcrgen'; rename the account"):
        look_up_user(7)


async def test_a_stranger_is_looked_up_once_until_the_expiry() -> None:
    uids: list[int] = []

    def look_up(uid: int) -> tuple[str, frozenset[str]]:
        uids.append(uid)
        return f"ada{len(uids)}", frozenset({"lab"})

    caller = Caller(STRANGER, UserDirectory(look_up))
    assert caller.known is None
    for _ in range(2):
        peer = await caller.identify()
        assert (peer.name, peer.groups, peer.pid) == ("ada1", frozenset({"lab"}), 7)
    assert caller.known == peer
    expiring = Caller(STRANGER, UserDirectory(look_up, expiry_s=0))
    assert [(await expiring.identify()).name for _ in range(2)] == ["ada2", "ada3"]


async def test_the_owner_is_known_without_a_look_up() -> None:
    caller = Caller(Peer(os.geteuid(), 7), UserDirectory(lambda _: ("nobody", frozenset())))
    assert (await caller.identify()).name == ""


async def test_a_look_up_that_hangs_or_fails_is_a_refusal(gate: threading.Event) -> None:
    names: list[str] = []

    def find(name: str) -> int:
        names.append(name)
        gate.wait()
        return 7

    directory = UserDirectory(limit_s=0.01, find_uid=find)
    for _ in range(2):
        with pytest.raises(RefusedError, match="looking up the user 'ada' failed"):
            await directory.uid_of("ada")
    assert names == ["ada"], "the second request waits for the first look-up"
    gate.set()
    assert await UserDirectory(find_uid=find).uid_of("ada") == 7
