"""`AsyncClient` against a fake daemon on a real socket: the requests that it sends."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from kconnd.core.names import derived_name
from kconnd.errors import UsageError
from kconnd.jupyter.async_client import AsyncClient, split_owner
from tests.cli.fake_daemon import FakeDaemon, kernel, without_session
from tests.jupyter.fake_client import CONNECTION


@pytest.fixture
def fake_daemon(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDaemon]:
    with tempfile.TemporaryDirectory(prefix="kj-", dir="/tmp") as folder:
        path = Path(folder, "s")
        monkeypatch.setenv("KCONND_SOCKET", str(path))
        with FakeDaemon(path) as fake_daemon:
            fake_daemon.add("lab")
            yield fake_daemon


async def test_each_method_sends_its_request(fake_daemon: FakeDaemon) -> None:
    client = AsyncClient()
    lab = kernel("lab")
    for path in ("start", "interrupt"):
        fake_daemon.replies["POST", f"/v1/kernels/lab/{path}"] = lab
    assert await client.get("lab") == lab
    assert await client.list() == [lab]
    assert await client.start("lab") == lab
    assert await client.post("lab", "interrupt") == lab
    assert await client.post("lab", "signal", {"signal": 15}) == lab
    requests = [request for request in fake_daemon.requests if request.path != "/v1/health"]
    assert [(request.method, request.path) for request in requests] == [
        ("GET", "/v1/kernels/lab"),
        ("GET", "/v1/kernels"),
        ("POST", "/v1/kernels/lab/start"),
        ("POST", "/v1/kernels/lab/interrupt"),
        ("POST", "/v1/kernels/lab/signal"),
    ]
    assert ["session" in request.body for request in requests[2:]] == [True, False, False]
    bodies = [without_session(request.body) for request in requests[2:]]
    start = {"on_demand": True, "notebook": {}, "is_run": False}
    assert bodies == [start, {}, {"signal": 15}]


async def test_settings_are_those_of_the_profile(fake_daemon: FakeDaemon) -> None:
    row = {"name": "lab", "instance": "per-session"}
    fake_daemon.replies["GET", "/v1/profiles"] = {"profiles": [{"name": "other"}, row]}
    assert await AsyncClient().settings("lab") == row
    assert await AsyncClient().settings("missing") == {}


async def test_a_connection_is_read_and_checked(fake_daemon: FakeDaemon) -> None:
    fake_daemon.replies["GET", "/v1/kernels/lab/connection"] = CONNECTION
    connection = await AsyncClient().connection("lab", fake_daemon.kernels["lab"])
    assert (connection["key"], connection["shell_port"]) == ("a-key", 1)


def test_a_provisioner_takes_jupyters_name_of_a_kernel_spec() -> None:
    assert split_owner("C++ 17") == ("", derived_name("c++ 17"))
    assert split_owner("ada/C++ 17") == ("ada", derived_name("c++ 17"))


def test_an_owner_stands_before_the_last_slash() -> None:
    assert split_owner("ada/lab@one") == ("ada", "lab@one")
    assert split_owner("lab") == ("", "lab")
    for profile in ("/lab", "ada/", "ada/.."):
        with pytest.raises(UsageError):
            split_owner(profile)
