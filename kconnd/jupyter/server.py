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
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from datetime import datetime
from typing import Any

from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager
from tornado.web import HTTPError

from kconnd.attach import this_machine
from kconnd.core.names import parse_name
from kconnd.errors import KconndError, UsageError
from kconnd.jupyter.async_client import Asker
from kconnd.jupyter.provisioner import KconndProvisioner

# Whether the server itself, and nobody in front of it, ends a kernel.
_of_its_own: ContextVar[bool] = ContextVar("of_its_own", default=False)

MAX_PHRASE_CHARS = 300
OVER = frozenset({"stopped", "failed", "lost"})  # states of kernels that nobody can attach to

_Stock: Any = AsyncMappingKernelManager  # its annotations are not those of its callers


class KconndMappingKernelManager(_Stock):  # type: ignore[misc]  # see above
    """The server's manager of kernels, which knows those of kconnd."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._daemon = Asker()

    # --- listing

    def list_kernel_ids(self) -> list[str]:
        """List the ids of all kernels.

        The stock method raises KeyError for an external kernel that was shut down here and
        whose file goes afterwards. It is called by every ``if kernel_manager:``, that in the
        server's end too, which then never comes. It has forgotten the file before it raises.
        """
        while True:
            with contextlib.suppress(KeyError):
                ids: list[str] = super().list_kernel_ids()
                return ids

    async def list_kernels(self) -> list[dict[str, Any]]:
        """List all kernels; what is said of kconnd's is what the daemon says now."""
        known = await self._known() if self.kernel_id_to_connection_file else None
        models: list[dict[str, Any]] = []
        for kernel_id in self.list_kernel_ids():
            with contextlib.suppress(HTTPError, KeyError):  # it is gone by now
                model = self._brought_up_to_date(super().kernel_model(kernel_id), known)
                if model is not None:
                    models.append(model)
        return models

    async def kernel_model(self, kernel_id: str) -> dict[str, Any]:
        """Describe one kernel, as `list_kernels` does."""
        model: dict[str, Any] = super().kernel_model(kernel_id)
        if self._external(kernel_id) is None:
            return model
        return self._brought_up_to_date(model, await self._known()) or model

    async def _known(self) -> Mapping[str, dict[str, Any]] | None:
        """Give the daemon's kernels by name; None where it does not answer."""
        try:
            return {kernel["name"]: kernel for kernel in await self._daemon.list()}
        except KconndError as error:
            self.log.warning("asking kconnd about its kernels: %s", error.message)
            return None

    def _brought_up_to_date(
        self, model: dict[str, Any], known: Mapping[str, dict[str, Any]] | None
    ) -> dict[str, Any] | None:
        """Correct what a server makes up about an external kernel; None for one that is gone."""
        published = self._published(model["id"])
        if published is None:
            return model
        name, here = published
        if not here:
            return None  # of another machine that shares this home: out of reach
        if known is None:
            return model
        kernel = known.get(name)
        if kernel is None or kernel["state"] in OVER:
            return None
        state = kernel["execution_state"] or "restarting"
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
        published = self._published(kernel_id)
        return published[0] if published is not None and published[1] else None

    def _published(self, kernel_id: str) -> tuple[str, bool] | None:
        """Give the name in a file that a daemon published, and whether that is this machine's."""
        path = self.kernel_id_to_connection_file.get(kernel_id)
        if path is None:
            return None
        with contextlib.suppress(OSError, ValueError, AttributeError, TypeError, UsageError):
            content = json.loads(path.read_bytes())
            if name := content.get("kconnd"):
                parse_name(name)  # a daemon publishes its own kernels alone, by their bare names
                return name, content.get("kconnd_machine") == this_machine()
        return None

    # --- what is done to one

    async def interrupt_kernel(self, kernel_id: str) -> None:
        """Interrupt what a kernel runs."""
        name = self._external(kernel_id)
        if name is None:
            await super().interrupt_kernel(kernel_id)
        else:
            with as_http_error():
                await self._daemon.post(name, "interrupt")

    async def restart_kernel(self, kernel_id: str, now: bool = False) -> Any:  # noqa: FBT001, FBT002  # the interface
        """Restart a kernel; one of kconnd's keeps its name, ports and key."""
        name = self._external(kernel_id)
        if name is None:
            return await super().restart_kernel(kernel_id, now=now)
        with as_http_error():
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
                with as_http_error():
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


@contextlib.contextmanager
def as_http_error() -> Iterator[None]:
    """Tell the person in front what the daemon says, and not that the server has failed."""
    try:
        yield
    except KconndError as error:
        reason = f"{error.message}; {error.hint}" if error.hint else error.message
        raise HTTPError(error.http_status, reason, reason=_phrase(error)) from error


def _phrase(error: KconndError) -> str:
    """Give an error as the reason in a status line, which is one line of plain ASCII."""
    text = error.message.encode("ascii", "replace").decode()
    plain = "".join(char if char.isprintable() and char != "<" else "?" for char in text)
    return plain[:MAX_PHRASE_CHARS]
