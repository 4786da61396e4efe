"""What would end a kernel without asking its provisioner, and what is in its place.

A kernel manager and the clients that it makes send ``shutdown_request`` to the kernel by
themselves, and a manager removes the files of ipc sockets that it takes for its own. None of
that is documented as something that a provisioner can change, so all of it is here.
"""

import functools
import types
from typing import Any

from jupyter_client.client import KernelClient


class Sink:
    """Takes what a kernel manager would send on the control channel, and drops it."""

    closed = False
    linger = 0

    def send_multipart(self, *_: object, **__: object) -> None:
        """Drop a message."""

    def close(self, *_: object, **__: object) -> None:
        """Do nothing: there is nothing to close."""


class LettingGo:
    """Makes a client leave the kernel when it is told to shut it down, as at a console's end."""

    def shutdown(self: Any, restart: bool = False, **_: Any) -> str:  # noqa: FBT001, FBT002  # the interface
        """Send nothing; give the id of a message that there might have been."""
        message = self.session.msg("shutdown_request", {"restart": restart})
        return str(message["header"]["msg_id"])


@functools.cache
def letting_go(kind: type[KernelClient]) -> type[KernelClient]:
    """Give the class of clients that are of this one, and leave the kernel."""
    if issubclass(kind, LettingGo):
        return kind
    return types.new_class(f"LettingGo{kind.__name__}", (LettingGo, kind))


def keep_from_ending(manager: Any) -> None:
    """Have a kernel manager, and the clients that it will make, leave the kernel alone."""
    if manager._control_socket is not None:  # noqa: SLF001  # see the head of this file
        manager._control_socket.close()  # noqa: SLF001  # the same
    manager._control_socket = Sink()  # noqa: SLF001  # the same
    manager.cleanup_ipc_files = _leave_files
    manager.client_factory = letting_go(manager.client_factory)


def _leave_files() -> None:
    """Remove no socket: they are the kernel's, and there may be a new process behind them."""
