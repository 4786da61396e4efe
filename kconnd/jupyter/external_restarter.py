"""Watches external kernels of kconnd for the front ends of a Jupyter server.

An external kernel is a kernel that the server did not start, but found by its connection file. The
server itself starts no restarter for an external kernel. Without this module, no front end would be
notified of a crash, and a queued cell would wait for ever. An external kernel has no provisioner,
so an `ExternalRestarter` reads the status of the kernel's process from an `ExternalKernel`.
"""

import logging
from typing import Any

from jupyter_client.connect import port_names

from kconnd.errors import KconndError, NoSuchKernelError
from kconnd.jupyter.async_client import AsyncClient
from kconnd.jupyter.restarter import (
    UP,
    AttachedProvisioner,
    Fate,
    KconndRestarter,
    ProcessStatus,
    process_status,
)

log = logging.getLogger("kconnd")

ADDRESS_FIELDS = ("transport", "ip", *port_names)


class ExternalKernel:
    """An external kernel and the process to which a server's kernel manager is connected.

    Parameters
    ----------
    kernel : str
        The kernel's name in kconnd.
    manager : KernelManager
        The server's kernel manager of the kernel.
    daemon : AsyncClient
        The client that queries the daemon.
    """

    def __init__(self, kernel: str, manager: Any, daemon: AsyncClient) -> None:
        self.kernel, self.manager = kernel, manager
        self.generation: int | None = None
        self._daemon = daemon

    async def poll_status(self) -> ProcessStatus | None:
        """Query the status of the attached process; None if the daemon does not answer.

        The first answer defines the generation of the attached process.
        """
        try:
            kernel = await self._daemon.get(self.kernel)
            same_connection = kernel["state"] not in UP or await self._has_connection_of(kernel)
        except NoSuchKernelError:
            return ProcessStatus(Fate.ENDED, self.generation or 0)
        except KconndError as error:
            log.warning("querying the state of %s: %s", self.kernel, error.message)
            return None
        if self.generation is None:
            self.generation = int(kernel["generation"])
        return process_status(kernel, self.generation, same_connection=same_connection)

    async def reason_of_end(self) -> str:
        """Query why the last process ended; ``""`` if this is unknown."""
        return await self._daemon.reason_of_end(self.kernel)

    async def _has_connection_of(self, kernel: dict[str, Any]) -> bool:
        """Return whether the manager has the key and addresses of the kernel's present process."""
        if kernel["generation"] == self.generation:
            return True
        connection = await self._daemon.connection(self.kernel, kernel)
        own = self.manager.get_connection_info()
        has_key: bool = own["key"] == connection["key"].encode()
        return has_key and all(own[field] == connection[field] for field in ADDRESS_FIELDS)


class ExternalRestarter(KconndRestarter):
    """Notifies front ends of restarts and of the end of an external kernel."""

    external: ExternalKernel

    @property
    def _provisioner(self) -> AttachedProvisioner:
        return self.external


def start_restarter(external: ExternalKernel) -> bool:
    """Begin to watch an external kernel; return False if its manager has a restarter already."""
    manager = external.manager
    if manager._restarter is not None:  # noqa: SLF001  # Jupyter creates it only with a kernel
        return False
    restarter: Any = ExternalRestarter(
        kernel_manager=manager, loop=manager.loop, parent=manager, log=manager.log
    )
    restarter.external = external
    manager._restarter = restarter  # noqa: SLF001  # no public method sets it
    restarter.start()
    restarter.poll_soon()
    return True
