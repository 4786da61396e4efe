"""A database of users that hangs: how many look-ups of names wait for it, and who else does not."""

import asyncio
import threading
from collections.abc import Iterator

import pytest

from kconnd.core.access import Peer
from kconnd.errors import RefusedError
from kconnd.system.http.peer import MAX_LOOKUPS, MAX_NAMES, UserDirectory
from tests.conftest import LIMIT, wait_until


class Names:
    """A database that answers for names once it is told to; by uid it answers at once."""

    def __init__(self) -> None:
        self.answers, self.asked = threading.Event(), list[str]()

    def find_uid(self, name: str) -> int | None:
        self.asked.append(name)
        self.answers.wait(LIMIT)
        return 2000

    def directory(self, patience: float = LIMIT) -> UserDirectory:
        return UserDirectory(lambda _: ("eve", frozenset()), patience, find_uid=self.find_uid)


@pytest.fixture
def names() -> Iterator[Names]:
    found = Names()
    yield found
    found.answers.set()


async def test_a_name_is_looked_up_once_however_many_ask(names: Names) -> None:
    directory = names.directory()
    asking = [asyncio.create_task(directory.uid_of("ada")) for _ in range(3 * MAX_NAMES)]
    await wait_until(lambda: names.asked, "the look-up")
    names.answers.set()
    assert await asyncio.gather(*asking) == [2000] * len(asking)
    assert names.asked == ["ada"]


async def test_it_is_not_looked_up_again_after_who_asked_has_gone(names: Names) -> None:
    directory = names.directory(patience=0.05)
    for _ in range(2 * MAX_LOOKUPS):
        with pytest.raises(RefusedError, match=r"looking up the user .* failed"):
            await directory.uid_of("ada")
    await wait_until(lambda: names.asked, "the look-up")
    assert names.asked == ["ada"]


async def test_only_so_many_names_wait_and_who_is_asked_about_by_uid_does_not(
    names: Names,
) -> None:
    directory = names.directory()
    asking = [asyncio.create_task(directory.uid_of(f"u{n}")) for n in range(MAX_NAMES)]
    await wait_until(lambda: len(names.asked) == MAX_LOOKUPS, "as many as are asked at once")
    with pytest.raises(RefusedError, match="are being looked up already") as told:
        await directory.uid_of("one more")
    assert "try again" in told.value.hint
    assert (await directory.complete(Peer(3000, 0))).name == "eve"
    assert len(names.asked) == MAX_LOOKUPS
    names.answers.set()
    assert await asyncio.gather(*asking) == [2000] * MAX_NAMES
    assert await directory.uid_of("one more") == 2000


async def test_a_database_that_fails_is_asked_again() -> None:
    failing = [OSError("the server went away")]

    def find_uid(_name: str) -> int | None:
        if failing:
            raise failing.pop()
        return 2000

    directory = UserDirectory(find_uid=find_uid)
    with pytest.raises(RefusedError):
        await directory.uid_of("ada")
    assert await directory.uid_of("ada") == 2000
    assert await UserDirectory().uid_of("no such user") is None
    assert await UserDirectory().uid_of("root") == 0
