"""When a daemon that nothing needs ends, and what the front door is asked for."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kconnd.core.kernel.lifecycle import State
from kconnd.core.profile.model import Access
from kconnd.daemon.tasks import service_status
from kconnd.daemon.tasks.service_status import register_at_front_for_ever, report_for_ever
from tests.cli.fake_daemon import FakeDaemon
from tests.conftest import wait_until
from tests.daemon.fakes import LAB

IDLE_S = 0.04


class Surroundings:
    """What the task reads, and the number of its rounds."""

    def __init__(self) -> None:
        self.rounds = 0
        self.now = 0.0
        self.ending = asyncio.Event()
        self.actor = SimpleNamespace(kernel=SimpleNamespace(state=State.STOPPED))
        self.site: Any = SimpleNamespace(connections=0)
        self.kernels: Any = SimpleNamespace(
            world=SimpleNamespace(clock=lambda: self.now), all=self._all, pool=None
        )

    def _all(self) -> list[object]:
        self.rounds += 1
        self.now += 3 * IDLE_S
        return [self.actor]

    async def pass_rounds(self) -> None:
        before = self.rounds
        await wait_until(lambda: self.rounds > before + 3, "some rounds")


@pytest.fixture
def around(monkeypatch: pytest.MonkeyPatch) -> Surroundings:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    return Surroundings()


@pytest.mark.parametrize("needed_by", ["a kernel", "a retry", "a client", "a warm kernel"])
async def test_a_daemon_ends_once_nothing_needs_it(around: Surroundings, needed_by: str) -> None:
    states = {"a kernel": State.RUNNING, "a retry": State.BACKOFF}
    around.actor.kernel.state = states.get(needed_by, State.STOPPED)
    around.site.connections = int(needed_by == "a client")
    around.kernels.pool = SimpleNamespace(ready=int(needed_by == "a warm kernel"))
    task = asyncio.create_task(report_for_ever(around.kernels, around.site, IDLE_S, around.ending))
    await around.pass_rounds()
    assert not around.ending.is_set()
    around.actor.kernel.state, around.site.connections = State.STOPPED, 0
    around.kernels.pool = None
    await wait_until(around.ending.is_set, "the end")
    task.cancel()


@pytest.mark.parametrize(
    ("route", "fields"),
    [("/v1/boot", {"start": "boot"}), ("/v1/sharing", {"access": Access(see=("bob",))})],
)
async def test_facts_are_registered_as_the_profiles_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, route: str, fields: dict[str, object]
) -> None:
    monkeypatch.setattr(service_status, "FRONT_INTERVAL_S", 0.01)
    profiles: dict[str, object] = {}
    loaded = SimpleNamespace(profiles=profiles)
    kernels: Any = SimpleNamespace(catalog=SimpleNamespace(loaded=loaded))
    with FakeDaemon(tmp_path / "front") as front:
        front.replies |= {("POST", "/v1/boot"): {}, ("POST", "/v1/sharing"): {}}
        task = asyncio.create_task(register_at_front_for_ever(kernels, front.path))

        def registered() -> list[object]:
            return [request.body for request in front.requests if request.path == route]

        await wait_until(lambda: registered() == [{"wanted": False}], "the first request")
        profiles["lab"] = SimpleNamespace(profile=LAB.model_copy(update=fields))
        await wait_until(lambda: len(registered()) > 1, "the second request")
        assert registered() == [{"wanted": False}, {"wanted": True}]
        assert len(front.requests) == 3, "nothing is registered twice"
        task.cancel()
        await asyncio.wait({task})
