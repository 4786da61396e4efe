"""A daemon ends once its uid is another account's, and for nothing less."""

import asyncio
from pathlib import Path

import pytest

from kconnd.daemon.tasks.account_watch import end_with_account
from kconnd.system.http.peer import UserDirectory
from tests.conftest import wait_until


class Names:
    """What the database of users says: a name, nothing, or no answer."""

    def __init__(self) -> None:
        self.said: str | None = "ada"
        self.asked = 0

    def look_up(self, _uid: int) -> tuple[str, frozenset[str]]:
        self.asked += 1
        if self.said is None:
            raise OSError("no answer")
        return self.said, frozenset()


@pytest.fixture
def passwd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "passwd"
    file.touch()
    monkeypatch.setattr("kconnd.daemon.tasks.account_watch.ACCOUNTS_FILE", str(file))
    monkeypatch.setattr("kconnd.daemon.tasks.account_watch.CHECK_INTERVAL_S", 0.01)
    return file


async def test_it_ends_with_another_name_alone(
    passwd: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    names, ending = Names(), asyncio.Event()
    task = asyncio.create_task(end_with_account("ada", ending, UserDirectory(names.look_up)))
    monkeypatch.setattr("kconnd.daemon.tasks.account_watch.LOOKUP_INTERVAL_S", 0.0)
    for said in ("ada", "", None):
        names.said, before = said, names.asked
        await wait_until(lambda: names.asked > before + 2, "some looks")  # noqa: B023  # at once
        assert not ending.is_set(), said
    monkeypatch.setattr("kconnd.daemon.tasks.account_watch.LOOKUP_INTERVAL_S", 1000.0)
    names.said = "bob"
    passwd.write_text("bob")  # noqa: ASYNC240  # short
    await asyncio.wait_for(ending.wait(), 10)
    await task
    assert "changed from ada to bob: this daemon exits" in caplog.text


async def test_a_uid_without_a_name_is_not_watched() -> None:
    await asyncio.wait_for(end_with_account("", asyncio.Event()), 1)
