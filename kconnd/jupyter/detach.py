"""Replaces the parts of a kernel manager that end a kernel without calling the provisioner.

A kernel manager and its clients send ``shutdown_request`` directly to the kernel. A manager also
removes the files of ipc sockets, because the manager assumes that it owns these files.
jupyter_client has no documented interface through which a provisioner can prevent these actions.
This module therefore changes private attributes of jupyter_client.
"""

import functools
import types
from typing import Any

from jupyter_client.client import KernelClient


class NullSocket:
    """A stand-in for a manager's control socket, which drops every message."""

    closed = False
    linger = 0

    def send_multipart(self, *_: object, **__: object) -> None:
        """Drop a message."""

    def close(self, *_: object, **__: object) -> None:
        """Do nothing: no socket is open."""


class DetachingClient:
    """A mixin for kernel clients: ``shutdown`` sends nothing, so the kernel survives.

    A console calls ``shutdown`` of its client when the console exits.
    """

    def shutdown(self: Any, restart: bool = False, **_: Any) -> str:  # noqa: FBT001, FBT002  # the interface
        """Send nothing; return a message id, as the interface requires."""
        message = self.session.msg("shutdown_request", {"restart": restart})
        return str(message["header"]["msg_id"])


@functools.cache
def detaching_class(client_class: type[KernelClient]) -> type[KernelClient]:
    """Add the mixin `DetachingClient` to a client class; return the new class."""
    if issubclass(client_class, DetachingClient):
        return client_class
    return types.new_class(f"Detaching{client_class.__name__}", (DetachingClient, client_class))


def keep_from_ending(manager: Any) -> None:
    """Prevent a kernel manager, and clients that it creates later, from ending the kernel."""
    if manager._control_socket is not None:  # noqa: SLF001  # see the module's docstring
        manager._control_socket.close()  # noqa: SLF001  # see the module's docstring
    manager._control_socket = NullSocket()  # noqa: SLF001  # see the module's docstring
    manager.cleanup_ipc_files = _keep_files
    manager.client_factory = detaching_class(manager.client_factory)


def _keep_files() -> None:
    """Remove no file: the sockets belong to the kernel, and a new process may listen on them."""
