"""A kernel manager and its clients, after `keep_from_ending`, send the kernel nothing."""

from pathlib import Path

from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.manager import AsyncKernelManager

from kconnd.jupyter.detach import DetachingClient, NullSocket, detaching_class, keep_from_ending


class RecordingSocket(NullSocket):
    """Counts how often it is closed."""

    closings = 0

    def close(self, *_: object, **__: object) -> None:
        self.closings += 1


def test_the_control_socket_is_closed_and_replaced() -> None:
    manager, socket = AsyncKernelManager(), RecordingSocket()
    manager._control_socket = socket
    keep_from_ending(manager)
    assert socket.closings == 1
    assert type(manager._control_socket) is NullSocket
    manager._control_socket.send_multipart([b"shutdown"])
    keep_from_ending(AsyncKernelManager())  # which has no socket yet


def test_the_sockets_of_the_kernel_are_not_removed(tmp_path: Path) -> None:
    manager = AsyncKernelManager(transport="ipc", ip=str(tmp_path / "k"))
    file = tmp_path / "k-1"
    file.touch()
    manager.shell_port = 1
    keep_from_ending(manager)
    manager.cleanup_ipc_files()
    assert file.exists()


def test_a_client_of_the_manager_sends_no_shutdown() -> None:
    manager = AsyncKernelManager()
    keep_from_ending(manager)
    client = manager.client()
    assert isinstance(client, AsyncKernelClient)
    assert client.shutdown() != client.shutdown()  # it opens no channel, which would raise
    assert client._control_channel is None


def test_a_class_detaches_once() -> None:
    detaching = detaching_class(AsyncKernelClient)
    assert issubclass(detaching, DetachingClient)
    assert detaching_class(detaching) is detaching
    assert detaching_class(AsyncKernelClient) is detaching
