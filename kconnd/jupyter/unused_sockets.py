"""Closes a Jupyter server's sockets to a kernel that no notebook of the server uses.

After the last websocket of a kernel has closed, a server keeps the websocket's four ZeroMQ sockets
to buffer the kernel's messages, and one more socket to follow the kernel's activity. The daemon
cannot distinguish these five sockets from a client's sockets, so ``idle.stop_after`` would never
stop the kernel while the server runs. `SocketReleasingManager` closes the five sockets as soon as
the kernel has been idle for ``release_delay_s``, because an idle kernel sends nothing to buffer.
The manager keeps the messages that it has buffered, and connects to the kernel again when the
notebook opens a new websocket.
"""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager
from traitlets import Float

from kconnd.errors import KconndError
from kconnd.jupyter.async_client import AsyncClient
from kconnd.jupyter.provisioner import KconndProvisioner

CHANNELS = ("iopub", "shell", "control", "stdin")

_Stock: Any = AsyncMappingKernelManager  # its type annotations do not match its callers


class SocketReleasingManager(_Stock):  # type: ignore[misc]  # see above
    """A kernel manager that closes its sockets to a kernel that is idle and has no websocket."""

    release_delay_s = Float(
        60.0, config=True, help="Close the sockets to an unused kernel after this time idle."
    )

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._daemon = AsyncClient()
        self.released: dict[str, str] = {}  # names of kernels by Jupyter's id
        self._releases: dict[str, asyncio.Task[None]] = {}

    def start_buffering(self, kernel_id: str, session_key: str, channels: Any) -> None:
        """Buffer the messages of a kernel whose last websocket has closed."""
        super().start_buffering(kernel_id, session_key, channels)
        self._release_later(kernel_id)

    async def _finish_kernel_start(self, kernel_id: str) -> None:
        """Finish a start, and begin to wait for idleness: perhaps no websocket ever opens."""
        await super()._finish_kernel_start(kernel_id)
        self._release_later(kernel_id)

    def get_buffer(self, kernel_id: str, session_key: str) -> Any:
        """Return a session's buffer when its websocket opens; connect again after a release."""
        was_released = self.released.pop(kernel_id, None) is not None
        if was_released:
            self.start_watching_activity(kernel_id)
        buffer = super().get_buffer(kernel_id, session_key)
        if was_released and buffer:
            session = session_key.rpartition(":")[2]
            buffer["channels"] = _connect(self.get_kernel(kernel_id), session.encode())
        return buffer

    async def shutdown_all(self, now: bool = False) -> None:  # noqa: FBT001, FBT002  # the interface
        """Shut all managers down, since the server exits."""
        for release in self._releases.values():
            release.cancel()
        await super().shutdown_all(now=now)

    def _release_later(self, kernel_id: str) -> None:
        name = self._attached_name(kernel_id)
        if name is None:
            return
        previous = self._releases.pop(kernel_id, None)
        if previous is not None:
            previous.cancel()
        release = asyncio.ensure_future(self._release_when_idle(kernel_id, name))
        self._releases[kernel_id] = release

    async def _release_when_idle(self, kernel_id: str, name: str) -> None:
        is_released = False
        while not is_released:
            await asyncio.sleep(self.release_delay_s)
            is_idle = await self._is_idle(name)
            # A websocket may have opened during the query.
            if self._attached_name(kernel_id) != name or self._kernel_connections.get(kernel_id):
                return
            is_released = is_idle and self._release(kernel_id, name)

    async def _is_idle(self, name: str) -> bool:
        try:
            return is_idle(await self._daemon.get(name), self.release_delay_s, datetime.now(UTC))
        except KconndError:
            return False

    def _release(self, kernel_id: str, name: str) -> bool:
        """Close the sockets; return False if Jupyter needs them for a restart."""
        if getattr(self._kernels[kernel_id], "_pending_restart_cleanup", None):
            return False
        self.released[kernel_id] = name
        self.stop_watching_activity(kernel_id)
        if kernel_id in self._kernel_buffers:
            buffer = self._kernel_buffers[kernel_id]
            streams, buffer["channels"] = buffer["channels"], {}
            for stream in streams.values():
                stream.close()
        return True

    def _attached_name(self, kernel_id: str) -> str | None:
        """Return the name of a kernel with kconnd's provisioner; None for any other kernel."""
        provisioner = getattr(self._kernels.get(kernel_id), "provisioner", None)
        return provisioner.kernel if isinstance(provisioner, KconndProvisioner) else None


def is_idle(kernel: Mapping[str, Any], delay_s: float, now: datetime) -> bool:
    """Return whether a kernel, as the daemon describes it, has been idle for ``delay_s``."""
    if kernel["execution_state"] != "idle":
        return False
    active_at = kernel["last_activity"]
    return not active_at or (now - datetime.fromisoformat(active_at)).total_seconds() >= delay_s


def _connect(manager: Any, identity: bytes) -> dict[str, Any]:
    """Connect to a kernel as the session with this identity."""
    streams = {}
    for channel in CHANNELS:
        streams[channel] = stream = getattr(manager, f"connect_{channel}")(identity=identity)
        stream.channel = channel
    return streams
