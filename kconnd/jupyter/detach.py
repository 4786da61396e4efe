"""Replaces the parts of a kernel manager that end a kernel without asking its provisioner.

A kernel manager and its clients send ``shutdown_request`` to the kernel themselves, and a manager
removes the files of the ipc sockets that it believes to be its own. jupyter_client documents no way
for a provisioner to change that, so every change of its private attributes is in this module.
"""

import functools
import types
from typing import Any

from jupyter_client.client import KernelClient


class NullSocket:
    """Stands in for a manager's control socket and drops every message."""

    closed = False
    linger = 0

    def send_multipart(self, *_: object, **__: object) -> None:
        """Drop a message."""

    def close(self, *_: object, **__: object) -> None:
        """Do nothing: no socket is open."""


class DetachingClient:
    """Mixin for a kernel client whose ``shutdown`` sends nothing, so that the kernel survives.

    A console calls ``shutdown`` when it exits.
    """

    def shutdown(self: Any, restart: bool = False, **_: Any) -> str:  # noqa: FBT001, FBT002  # the interface
        """Send nothing; return the id of a message, as the interface requires."""
        message = self.session.msg("shutdown_request", {"restart": restart})
        return str(message["header"]["msg_id"])


@functools.cache
def detaching_class(client_class: type[KernelClient]) -> type[KernelClient]:
    """Return a subclass of a client class that mixes in `DetachingClient`."""
    if issubclass(client_class, DetachingClient):
        return client_class
    return types.new_class(f"Detaching{client_class.__name__}", (DetachingClient, client_class))


def keep_from_ending(manager: Any) -> None:
    """Keep a kernel manager and its future clients from ending the kernel."""
    if manager._control_socket is not None:  # noqa: SLF001  # see the module's docstring
        manager._control_socket.close()  # noqa: SLF001  # see the module's docstring
    manager._control_socket = NullSocket()  # noqa: SLF001  # see the module's docstring
    manager.cleanup_ipc_files = _keep_files
    manager.client_factory = detaching_class(manager.client_factory)


def _keep_files() -> None:
    """Remove no socket: they are the kernel's, and a new process may listen on them."""
