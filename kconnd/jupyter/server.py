"""A Jupyter server's kernel manager class that handles kernels of kconnd correctly.

One line in ``jupyter_server_config.py`` enables it::

    c.ServerApp.kernel_manager_class = "kconnd.jupyter.server.KconndMappingKernelManager"

An external kernel is a kernel that the server did not start, but found by its connection file.

Without this class, a server has three problems. First, the server cannot interrupt, restart or shut
down an external kernel: the server replies with status 500, or starts another kernel instead.
Second, the server lists a dead kernel as idle. Third, the server treats a user's "shut down kernel"
like its own exit.

Rules. Jupyter's own class handles all kernels that are not kernels of kconnd. When the server
closes a kernel, culls a kernel or exits, it detaches from the kernel and does not stop the kernel.
When a user shuts a kernel down, the kernel is stopped if its profile says ``on_frontend_shutdown:
stop``.
"""

import contextlib
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from datetime import datetime
from typing import Any

from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection
from tornado.web import HTTPError

from kconnd.attach import this_machine
from kconnd.core.names import parse_name
from kconnd.errors import KconndError, UsageError
from kconnd.jupyter.external_restarter import ExternalKernel, start_restarter
from kconnd.jupyter.provisioner import KconndProvisioner
from kconnd.jupyter.unused_sockets import SocketReleasingManager
from kconnd.jupyter.websocket import KconndWebsocketConnection

# True while the server shuts a kernel down without a request of a user.
_by_server: ContextVar[bool] = ContextVar("by_server", default=False)

MAX_PHRASE_CHARS = 300
DIGEST_CHARS = 12  # of the name of an external kernel, in its id
ENDED = frozenset({"stopped", "failed", "lost"})  # no client can attach to a kernel in these states


class KconndMappingKernelManager(SocketReleasingManager):
    """A kernel manager that forwards requests about kernels of kconnd to the daemon."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        server: Any = self.parent  # it creates this manager before the first websocket opens
        stock = getattr(server, "kernel_websocket_connection_class", None)
        if stock is ZMQChannelsWebsocketConnection:
            server.kernel_websocket_connection_class = KconndWebsocketConnection

    # --- listing

    def list_kernel_ids(self) -> list[str]:
        """List the ids of all kernels.

        If an external kernel was shut down on this server and its connection file was removed,
        Jupyter's own method raises KeyError once. Every ``if kernel_manager:`` calls this method,
        so the exception would keep the server's shutdown from finishing. Jupyter's own method
        forgets the file before it raises the exception. A second call therefore succeeds.
        """
        while True:
            with contextlib.suppress(KeyError):
                super().list_kernel_ids()
                self._name_external_kernels()
                return list(self._kernels)

    def _name_external_kernels(self) -> None:
        """Give each external kernel of kconnd its name in kconnd, and an id that stays the same.

        Jupyter's own method names a kernel after its kernel spec, and gives the kernel a new random
        id for each connection file. Front ends would therefore show the same name for all Python
        kernels.
        """
        # Jupyter's own method calls this class's list_kernel_ids before it has added a kernel to
        # `_kernels`.
        for kernel_id in self.kernel_id_to_connection_file.keys() & self._kernels.keys():
            name = self._external_name(kernel_id)
            # If the file of an earlier process of the kernel still exists, that file has the id.
            if name is None or (new_id := external_id(name)) in self._kernels:
                continue
            manager = self._kernels[new_id] = self._kernels.pop(kernel_id)
            path = self.kernel_id_to_connection_file.pop(kernel_id)
            self.kernel_id_to_connection_file[new_id] = path
            manager.kernel_id, manager.kernel_name = new_id, name

    async def list_kernels(self) -> list[dict[str, Any]]:
        """List all kernels; the state of a kconnd kernel is the one that the daemon reports."""
        is_needed = self.kernel_id_to_connection_file or self.released.keys() & self._kernels.keys()
        states = await self._query_states() if is_needed else None
        models: list[dict[str, Any]] = []
        for kernel_id in self.list_kernel_ids():
            # The kernel was removed after list_kernel_ids had returned.
            with contextlib.suppress(HTTPError, KeyError):
                model = self._update_model(super().kernel_model(kernel_id), states)
                if model is not None:
                    models.append(model)
        return models

    async def kernel_model(self, kernel_id: str) -> dict[str, Any]:
        """Describe one kernel; see `list_kernels`."""
        model: dict[str, Any] = super().kernel_model(kernel_id)
        if self._external_name(kernel_id) is None and kernel_id not in self.released:
            return model
        return self._update_model(model, await self._query_states()) or model

    async def _query_states(self) -> Mapping[str, dict[str, Any]] | None:
        """Return the states of the daemon's kernels by name; None if the daemon does not answer."""
        try:
            return {kernel["name"]: kernel for kernel in await self._daemon.list()}
        except KconndError as error:
            self.log.warning("listing the kernels of kconnd: %s", error.message)
            return None

    def _update_model(
        self, model: dict[str, Any], states: Mapping[str, dict[str, Any]] | None
    ) -> dict[str, Any] | None:
        """Put the daemon's state of an external kernel into the server's description of the kernel.

        Return None if the kernel has ended or runs on another machine.
        """
        published = self._read_published(model["id"])
        if published is None:
            unused = (states or {}).get(self.released.get(model["id"], ""), {})
            current = unused.get("execution_state")
            return {**model, "execution_state": current} if current else model
        name, is_on_this_machine = published
        if not is_on_this_machine:
            return None  # a kernel on another machine with this home folder cannot be reached
        if states is None:
            return model
        kernel = states.get(name)
        if kernel is None or kernel["state"] in ENDED:
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

    def _external_name(self, kernel_id: str) -> str | None:
        """Return the name of an external kernel of kconnd; None for any other kernel."""
        published = self._read_published(kernel_id)
        return published[0] if published is not None and published[1] else None

    def _read_published(self, kernel_id: str) -> tuple[str, bool] | None:
        """Return the published name of a kernel, and whether the kernel is on this machine."""
        path = self.kernel_id_to_connection_file.get(kernel_id)
        if path is None:
            return None
        with contextlib.suppress(OSError, ValueError, AttributeError, TypeError, UsageError):
            content = json.loads(path.read_bytes())
            if name := content.get("kconnd"):
                parse_name(name)  # raises for OWNER/NAME, which no daemon publishes
                return name, content.get("kconnd_machine") == this_machine()
        return None

    # --- restarts and ends

    def add_restart_callback(self, kernel_id: str, callback: Any, event: str = "restart") -> None:
        """Register a callback for restarts of a kernel, or for its end.

        Each websocket registers callbacks when it opens. Jupyter's own method ignores callbacks for
        an external kernel, because Jupyter does not watch external kernels. This method begins to
        watch a kernel of kconnd when the first websocket to the kernel opens.
        """
        manager, name = self.get_kernel(kernel_id), self._external_name(kernel_id)
        if name is not None and start_restarter(ExternalKernel(name, manager, self._daemon)):
            manager.add_restart_callback(lambda: self._forget(kernel_id, manager), "dead")
        super().add_restart_callback(kernel_id, callback, event)

    def _forget(self, kernel_id: str, manager: Any) -> None:
        """Forget an external kernel that has ended; a later process may have a new connection."""
        if self._kernels.get(kernel_id) is manager:
            del self._kernels[kernel_id]
            del self.kernel_id_to_connection_file[kernel_id]

    # --- commands

    async def interrupt_kernel(self, kernel_id: str) -> None:
        """Interrupt a kernel's running cell."""
        name = self._external_name(kernel_id)
        if name is None:
            await super().interrupt_kernel(kernel_id)
        else:
            with as_http_error():
                await self._daemon.post(name, "interrupt")

    async def restart_kernel(self, kernel_id: str, now: bool = False) -> Any:  # noqa: FBT001, FBT002  # the interface
        """Restart a kernel; a kernel of kconnd keeps its name, ports and key."""
        name = self._external_name(kernel_id)
        if name is None:
            return await super().restart_kernel(kernel_id, now=now)
        with as_http_error():
            await self._daemon.post(name, "restart")
        return None

    async def shutdown_kernel(
        self,
        kernel_id: str,
        now: bool = False,  # noqa: FBT001, FBT002  # the interface
        restart: bool = False,  # noqa: FBT001, FBT002  # the interface
    ) -> None:
        """Stop a kernel or detach from it, according to the profile.

        This method is called for a request of a user, and for the culling of idle kernels. A server
        that exits does not call it: `shutdown_all` shuts down the kernel managers directly, which
        detaches from the kernels.
        """
        self._check_kernel_id(kernel_id)
        by_user = not _by_server.get()
        name = self._external_name(kernel_id)
        if name is not None:
            if by_user:
                with as_http_error():
                    await self._stop_if_profile_says(name)
            return
        provisioner = getattr(self.get_kernel(kernel_id), "provisioner", None)
        if isinstance(provisioner, KconndProvisioner):
            provisioner.user_requested_shutdown = by_user and not restart
        await super().shutdown_kernel(kernel_id, now=now, restart=restart)

    async def _stop_if_profile_says(self, name: str) -> None:
        profile = await self._daemon.settings(name.partition("@")[0])
        if profile.get("on_frontend_shutdown") == "stop":
            await self._daemon.post(name, "stop")
        else:
            self.log.info("leaving %s running, as its profile says", name)

    async def shutdown_all(self, now: bool = False) -> None:  # noqa: FBT001, FBT002  # the interface
        """Shut all managers down, because the server exits; kconnd's kernels keep running.

        jupyter_client 8.10 keeps failed starts among its pending kernels. The overridden method
        raises an exception for a failed start, and the server then never exits. This method
        therefore removes the failed starts first.
        """
        for kernel_id, start in list(self._pending_kernels.items()):
            if kernel_id not in self._kernels and start.done():
                del self._pending_kernels[kernel_id]
        await super().shutdown_all(now=now)

    async def cull_kernel_if_idle(self, kernel_id: str) -> None:
        """Detach from an idle kernel of kconnd; the daemon has its own rule for idle kernels."""
        token = _by_server.set(True)
        try:
            await super().cull_kernel_if_idle(kernel_id)
        finally:
            _by_server.reset(token)


def external_id(name: str) -> str:
    """Derive Jupyter's id of an external kernel from the kernel's name in kconnd.

    A server accepts ids of five words with hyphens between them. The first word is the name, with
    each forbidden character replaced by ``_``. Different names can therefore have the same first
    word, so the last word is a digest of the name.
    """
    word = re.sub(r"[^A-Za-z0-9_]", "_", name)
    digest = hashlib.sha256(name.encode()).hexdigest()[:DIGEST_CHARS]
    return f"{word}-0-0-0-{digest}"


@contextlib.contextmanager
def as_http_error() -> Iterator[None]:
    """Convert each error of the daemon to an HTTP error with the error's HTTP status."""
    try:
        yield
    except KconndError as error:
        reason = f"{error.message}; {error.hint}" if error.hint else error.message
        raise HTTPError(error.http_status, reason, reason=_phrase(error)) from error


def _phrase(error: KconndError) -> str:
    """Convert an error to the reason of an HTTP status line: one line of printable ASCII."""
    text = error.message.encode("ascii", "replace").decode()
    plain = "".join(char if char.isprintable() and char != "<" else "?" for char in text)
    return plain[:MAX_PHRASE_CHARS]
