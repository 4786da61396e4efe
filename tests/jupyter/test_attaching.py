"""`KconndProvisioner` with a fake client: the requests that a kernel manager's calls become."""

import signal
from typing import Any

import pytest
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager

from kconnd.errors import NotRunningError, RefusedError, StartFailedError, UnreachableError
from kconnd.jupyter.detach import NullSocket
from kconnd.jupyter.provisioner import KconndProvisioner
from kconnd.jupyter.restarter import UNKNOWN_EXIT, Fate
from tests.jupyter.fake_client import CONNECTION, FakeClient


@pytest.fixture
def client() -> FakeClient:
    client = FakeClient()
    client.add("lab")
    return client


@pytest.fixture
def provisioner(client: FakeClient) -> KconndProvisioner:
    return build(client, "lab")


def build(client: FakeClient, profile: str) -> KconndProvisioner:
    provisioner = KconndProvisioner(
        kernel_id="0123456789", kernel_spec=KernelSpec(), parent=AsyncKernelManager()
    )
    provisioner.profile = profile
    provisioner._daemon = client
    return provisioner


async def attach(provisioner: KconndProvisioner) -> None:
    await provisioner.pre_launch(env={})
    await provisioner.launch_kernel([])
    await provisioner.post_launch()


async def test_a_start_loads_the_connection_into_the_manager(
    provisioner: KconndProvisioner, client: FakeClient
) -> None:
    assert await provisioner.poll() == UNKNOWN_EXIT
    await attach(provisioner)
    manager: Any = provisioner.parent
    assert client.commands == [("lab", "start")]
    assert (provisioner.kernel, provisioner.generation) == ("lab", 1)
    assert (manager.shell_port, manager.session.key) == (1, b"a-key")
    assert not manager.autorestart
    assert isinstance(manager._control_socket, NullSocket)
    assert provisioner.has_process
    assert await provisioner.poll() is None


@pytest.mark.parametrize(
    ("profile", "settings", "kernel"),
    [
        ("lab", {}, "lab"),
        ("ada/lab", {"instance": "per-session"}, "ada/lab"),
        ("lab", {"instance": "per-session"}, "lab@run-01234567"),
    ],
)
async def test_the_profile_decides_on_the_kernels_name(
    client: FakeClient, profile: str, settings: dict[str, Any], kernel: str
) -> None:
    client.profiles["lab"] = settings
    provisioner = build(client, profile)
    await attach(provisioner)
    assert provisioner.kernel == kernel


async def test_a_restart_by_the_daemon_is_reported_once(
    provisioner: KconndProvisioner, client: FakeClient
) -> None:
    await attach(provisioner)
    client.add("lab", generation=2, last_exit={"signal": 9})
    assert await provisioner.poll() == UNKNOWN_EXIT
    assert await provisioner.poll() is None
    assert provisioner.generation == 2


async def test_a_new_connection_is_not_attached_to(
    provisioner: KconndProvisioner, client: FakeClient
) -> None:
    await attach(provisioner)
    client.add("lab", generation=2)
    client.connections["lab"] = {**CONNECTION, "key": "another"}
    for _ in range(2):
        status = await provisioner.poll_status()
        assert status is not None
        assert status.fate is Fate.ENDED
    assert provisioner.generation == 1


async def test_a_daemon_that_does_not_answer_is_no_death_but_a_missing_kernel_is(
    provisioner: KconndProvisioner, client: FakeClient
) -> None:
    await attach(provisioner)
    client.error = UnreachableError("no daemon answers")
    assert await provisioner.poll() is None
    client.error = None
    client.kernels.clear()
    assert await provisioner.wait() == UNKNOWN_EXIT


async def test_signals_become_requests(provisioner: KconndProvisioner, client: FakeClient) -> None:
    await provisioner.send_signal(signal.SIGINT)  # nothing is attached
    await attach(provisioner)
    for number in (signal.SIGINT, signal.SIGUSR1, 0):
        await provisioner.send_signal(number)
    assert client.commands == [("lab", "start"), ("lab", "interrupt"), ("lab", "signal")]
    client.error = NotRunningError("lab is not running")
    await provisioner.send_signal(signal.SIGINT)
    client.error = None
    manager: Any = provisioner.parent
    manager.shutting_down = True
    await provisioner.send_signal(signal.SIGINT)
    assert len(client.commands) == 3


@pytest.mark.parametrize("method", ["kill", "terminate", "shutdown_requested"])
async def test_an_end_by_the_manager_only_detaches(
    provisioner: KconndProvisioner, client: FakeClient, method: str
) -> None:
    await attach(provisioner)
    await getattr(provisioner, method)()
    await provisioner.cleanup()
    assert not provisioner.has_process
    assert client.commands == [("lab", "start")]


@pytest.mark.parametrize(("on_shutdown", "stops"), [("stop", 1), ("detach", 0)])
async def test_a_users_shutdown_does_what_the_profile_says(
    provisioner: KconndProvisioner, client: FakeClient, on_shutdown: str, stops: int
) -> None:
    client.profiles["lab"] = {"on_frontend_shutdown": on_shutdown}
    await attach(provisioner)
    provisioner.user_requested_shutdown = True
    for _ in range(2):
        await provisioner.cleanup()
    assert client.commands.count(("lab", "stop")) == stops


@pytest.mark.parametrize(
    ("settings", "commands"),
    [
        ({"instance": "per-session", "on_frontend_shutdown": "auto"}, ["start", "stop"]),
        ({"instance": "per-session", "on_frontend_shutdown": "stop"}, ["start", "stop"]),
        # So does a daemon of an earlier version without a setting in the profile.
        ({"instance": "per-session", "on_frontend_shutdown": "detach"}, ["start"]),
        ({"instance": "shared", "on_frontend_shutdown": "auto"}, ["start"]),
    ],
)
async def test_a_run_stops_the_kernel_that_it_has_to_itself(
    provisioner: KconndProvisioner,
    client: FakeClient,
    settings: dict[str, str],
    commands: list[str],
) -> None:
    client.profiles["lab"] = settings
    await attach(provisioner)
    await provisioner.shutdown_requested()
    await provisioner.cleanup()
    assert [verb for _, verb in client.commands] == commands
    assert client.notebooks[0].run is not None


async def test_a_restart_is_the_daemons_and_one_that_is_refused_leaves_it_attached(
    provisioner: KconndProvisioner, client: FakeClient
) -> None:
    await attach(provisioner)
    await provisioner.cleanup(restart=True)
    await attach(provisioner)
    assert client.commands == [("lab", "start"), ("lab", "restart")]
    assert provisioner.generation == 2
    await provisioner.kill(restart=True)
    await provisioner.cleanup(restart=True)
    client.error = RefusedError("uid 1 may not restart lab")
    with pytest.raises(RefusedError):
        await attach(provisioner)
    assert provisioner.has_process


async def test_encryption_that_jupyter_does_not_support_is_an_error(
    provisioner: KconndProvisioner, client: FakeClient
) -> None:
    client.connections["lab"] = {**CONNECTION, "curve_publickey": "k"}
    manager: Any = provisioner.parent
    manager.has_trait = lambda _name: False
    with pytest.raises(StartFailedError, match=r"encrypted \(CURVE\)"):
        await attach(provisioner)


async def test_another_process_can_attach_by_the_provisioners_info(
    provisioner: KconndProvisioner, client: FakeClient
) -> None:
    await attach(provisioner)
    second = build(client, "lab")
    await second.load_provisioner_info(await provisioner.get_provisioner_info())
    assert (second.kernel, second.generation, second.has_process) == ("lab", 1, True)
    client.add("lab", generation=2)
    assert await second.poll() == UNKNOWN_EXIT
    assert await second.poll() is None, "it knows the connection"
    assert second.get_shutdown_wait_time(3.0) == 3.0
