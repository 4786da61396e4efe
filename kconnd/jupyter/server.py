"""For a Jupyter server: makes what its REST interface does to kconnd's kernels right.

One line in ``jupyter_server_config.py``::

    c.ServerApp.kernel_manager_class = "kconnd.jupyter.server.KconndMappingKernelManager"

Without it a server cannot interrupt, restart or end a kernel that it lists as external (it
answers 500, or starts another one in its place), shows a dead one as idle, and cannot tell a
person's "shut down kernel" from its own end. Rules. Kernels that are not kconnd's are left to
the class below. Closing, culling and the server's end let go of a kernel; a person who shuts
one down ends it where its profile says ``on_frontend_shutdown: stop``.
"""

import contextlib
import json
from contextvars import ContextVar
from datetime import datetime
from typing import Any

from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager

from kconnd.errors import KconndError
from kconnd.jupyter.asking import Asker
from kconnd.jupyter.provisioner import KconndProvisioner

# Whether the server itself, and nobody in front of it, ends a kernel.
_of_its_own: ContextVar[bool] = ContextVar("of_its_own", default=False)


_Stock: Any = AsyncMappingKernelManager  # its annotations are not those of its callers


class KconndMappingKernelManager(_Stock):  # type: ignore[misc]  # see above
    """The server's manager of kernels, which knows those of kconnd."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._daemon = Asker()

    # --- listing

    async def list_kernels(self) -> list[dict[str, Any]]:
        """List all kernels; what is said of kconnd's is what the daemon says now."""
        models: list[dict[str, Any]] = super().list_kernels()
        known = await self._known() if self.kernel_id_to_connection_file else {}
        found = (self._brought_up_to_date(model, known) for model in models)
        return [model for model in found if model is not None]

    async def _known(self) -> dict[str, dict[str, Any]]:
        try:
            return {kernel["name"]: kernel for kernel in await self._daemon.list()}
        except KconndError as error:
            self.log.warning("asking kconnd about its kernels: %s", error.message)
            return {}

    def _brought_up_to_date(
        self, model: dict[str, Any], known: dict[str, dict[str, Any]]
    ) -> dict[str, Any] | None:
        """Correct what a server makes up about an external kernel; None for one that is gone."""
        name = self._external(model["id"])
        kernel = known.get(name or "")
        if name is None or (kernel is None and not known):
            return model
        if kernel is None or kernel["pid"] is None:
            return None
        state = kernel["execution_state"] or kernel["state"]
        model["execution_state"] = state
        model["connections"] = kernel["clients"] or 0
        manager = self.get_kernel(model["id"])
        manager.execution_state = state
        if kernel["last_activity"]:
            model["last_activity"] = kernel["last_activity"]
            manager.last_activity = datetime.fromisoformat(kernel["last_activity"])
        return model

    def _external(self, kernel_id: str) -> str | None:
        """Give kconnd's name of a kernel that is listed as external; None for any other."""
        path = self.kernel_id_to_connection_file.get(kernel_id)
        if path is None:
            return None
        with contextlib.suppress(OSError, ValueError, AttributeError):
            name = json.loads(path.read_bytes()).get("kconnd")
            return str(name) if name else None
        return None

    # --- what is done to one

    async def interrupt_kernel(self, kernel_id: str) -> None:
        """Interrupt what a kernel runs."""
        name = self._external(kernel_id)
        if name is None:
            await super().interrupt_kernel(kernel_id)
        else:
            await self._daemon.post(name, "interrupt")

    async def restart_kernel(self, kernel_id: str, now: bool = False) -> Any:  # noqa: FBT001, FBT002  # the interface
        """Restart a kernel; one of kconnd's keeps its name, ports and key."""
        name = self._external(kernel_id)
        if name is None:
            return await super().restart_kernel(kernel_id, now=now)
        await self._daemon.post(name, "restart")
        return None

    async def shutdown_kernel(
        self,
        kernel_id: str,
        now: bool = False,  # noqa: FBT001, FBT002  # the interface
        restart: bool = False,  # noqa: FBT001, FBT002  # the same
    ) -> None:
        """End a kernel, or let go of it, as its profile says."""
        self._check_kernel_id(kernel_id)
        asked = not _of_its_own.get()
        name = self._external(kernel_id)
        if name is not None:
            if asked:
                await self._end(name)
            return
        provisioner = getattr(self.get_kernel(kernel_id), "provisioner", None)
        if isinstance(provisioner, KconndProvisioner):
            provisioner.asked_to_end = asked and not restart
        await super().shutdown_kernel(kernel_id, now=now, restart=restart)

    async def _end(self, name: str) -> None:
        profile = await self._daemon.settings(name.partition("@")[0])
        if profile.get("on_frontend_shutdown") == "stop":
            await self._daemon.post(name, "stop")
        else:
            self.log.info("%s is left running, as its profile says", name)

    async def shutdown_all(self, now: bool = False) -> None:  # noqa: FBT001, FBT002  # the interface
        """Let go of all kernels: the server ends."""
        token = _of_its_own.set(True)
        try:
            await super().shutdown_all(now=now)
        finally:
            _of_its_own.reset(token)

    async def cull_kernel_if_idle(self, kernel_id: str) -> None:
        """Let go of a kernel that the server finds idle; kconnd has its own rule for that."""
        token = _of_its_own.set(True)
        try:
            await super().cull_kernel_if_idle(kernel_id)
        finally:
            _of_its_own.reset(token)
