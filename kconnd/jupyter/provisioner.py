"""The kernel provisioner ``kconnd``: Jupyter attaches to a kernel that the daemon keeps.

A kernel spec that ``kconnd-ctl kernelspec install`` writes names it. To Jupyter the kernel
looks like one that it launched; what Jupyter does to end one only lets go of it. Source of the
interface: "Kernel Provisioning" in the jupyter_client documentation.

Rules. What the documentation offers is used: the provisioner's own methods, and of the kernel
manager its traits (``autorestart``, ``restarter_class``, ``client_factory``, the ports,
`load_connection_info`, ``shutting_down``). Where the kernel's end would go past the provisioner
`kconnd.jupyter.detach` is in its place; ``tests/jupyter`` has that proved with the oldest
and the newest jupyter_client that are supported.
"""

import logging
import signal
from typing import Any

from jupyter_client.connect import KernelConnectionInfo, port_names
from jupyter_client.provisioning.provisioner_base import KernelProvisionerBase
from traitlets import Bool, Unicode

from kconnd.errors import (
    KconndError,
    NoSuchKernelError,
    NotRunningError,
    RefusedError,
    StartFailedError,
)
from kconnd.jupyter.async_client import Asker, instance_for, split_owner
from kconnd.jupyter.detach import keep_from_ending
from kconnd.jupyter.restarter import GONE, UP, Fate, Look, fate_of, follow

log = logging.getLogger("kconnd")


class KconndProvisioner(KernelProvisionerBase):
    """Stands between a kernel manager and a kernel of the daemon's."""

    profile = Unicode(
        config=True, help="The kconnd profile, or OWNER/NAME for one that another user shares."
    )
    # Set by the server's class, which alone knows why a kernel is shut down.
    asked_to_end = Bool(default_value=False)

    _kernel = ""  # its name with instance and owner
    _generation = 0
    _connection: dict[str, Any]  # as the daemon gives it
    _attached = False
    _restarting = False
    _on_shutdown = "detach"

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._daemon = Asker()
        self._connection = {}

    @property
    def kernel(self) -> str:
        """What kconnd calls the kernel; ``""`` before it was started."""
        return self._kernel

    @property
    def _manager(self) -> Any:
        """The kernel manager that we provide for."""
        return self.parent

    @property
    def has_process(self) -> bool:
        """Whether we are attached."""
        return self._attached

    @property
    def generation(self) -> int:
        """Which process of the kernel we are attached to."""
        return self._generation

    async def poll(self) -> int | None:
        """Tell whether the process that we attached to still runs.

        One that the daemon has started again is another process: what ran in the old one is
        lost, and who waits for a reply has to know. That is told once; from then on we are
        attached to the new one, if it is reached as the old one was.
        """
        if not self._attached:
            return GONE
        seen = await self.look()
        return None if seen is None or seen.fate is Fate.THERE else seen.code

    async def look(self) -> Look | None:
        """Look what became of the kernel, and attach to the process that took its place.

        Returns
        -------
        Look, optional
            None where the daemon did not answer, which is no sign of death.
        """
        try:
            found = await self._daemon.get(self._kernel)
            same = await self._is_reached_as_before(found)
        except NoSuchKernelError:
            return Look(Fate.OVER, self._generation)
        except KconndError as error:
            log.warning("asking about %s: %s", self._kernel, error.message)
            return None
        seen = fate_of(found, self._generation, same=same)
        if found["state"] in UP and seen.fate is Fate.AGAIN:
            self._generation = seen.generation
        return seen

    async def _is_reached_as_before(self, found: dict[str, Any]) -> bool:
        """Tell whether a new process has the key, the ports and the keys of the one before."""
        if found["state"] not in UP or found["generation"] == self._generation:
            return True
        return await self._daemon.connection(self._kernel, found) == self._connection

    async def wait(self) -> int | None:
        """Give the exit code of what is gone."""
        return await self.poll()

    async def send_signal(self, signum: int) -> None:
        """Interrupt the kernel, or pass a signal on; one that is part of a shutdown is not."""
        if not self._attached or getattr(self._manager, "shutting_down", False):
            return
        if signum == signal.SIGINT:
            try:
                await self._daemon.post(self._kernel, "interrupt")
            except NotRunningError as error:  # as with a local process, there is nothing to do
                log.warning("%s", error.message)
        elif signum != 0:
            await self._daemon.post(self._kernel, "signal", {"signal": signum})

    async def kill(self, restart: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002  # the interface
        """Let go of the kernel."""
        self._detach()

    async def terminate(self, restart: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002  # the interface
        """Let go of the kernel."""
        self._detach()

    async def shutdown_requested(self, restart: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002  # the interface
        """Let go of the kernel."""
        self._detach()

    async def cleanup(self, restart: bool = False) -> None:  # noqa: FBT001, FBT002  # the interface
        """End the kernel, where somebody asked for that and its profile agrees."""
        self._restarting = restart
        asked, self.asked_to_end = self.asked_to_end, False
        if asked and not restart and self._on_shutdown == "stop" and self._kernel:
            await self._daemon.post(self._kernel, "stop")

    async def pre_launch(self, **kwargs: Any) -> dict[str, Any]:
        """Have the kernel started, or restarted, and learn how it is reached."""
        session = (kwargs.get("env") or {}).get("JPY_SESSION_NAME", "")
        kwargs = await super().pre_launch(cmd=[], **kwargs)
        restarting, self._restarting = self._restarting, False
        if restarting and self._kernel:
            found = await self._restart()
        else:
            self._kernel = await self._choose(str(session))
            found = await self._daemon.start(self._kernel)
        self._generation = found["generation"]
        self._connection = await self._daemon.connection(self._kernel, found)
        self._check_encryption()
        self.connection_info = _as_jupyter_has_it(self._connection)
        self._adjust_manager()
        return kwargs

    async def _restart(self) -> dict[str, Any]:
        """Restart the kernel; where that is refused we are attached to it as before."""
        try:
            return await self._daemon.post(self._kernel, "restart")
        except RefusedError:
            self._attached = True
            raise

    def _check_encryption(self) -> None:
        """Say so where this Jupyter would only see a kernel that does not answer."""
        if "curve_publickey" in self._connection and not self._manager.has_trait("curve_publickey"):
            raise StartFailedError(
                f"attaching to {self._kernel}: its connection is encrypted (CURVE), which this "
                "jupyter_client cannot do",
                hint="in the environment of Jupyter: pip install 'jupyter_client>=8.9'",
            )

    async def launch_kernel(self, cmd: list[str], **_kwargs: Any) -> KernelConnectionInfo:  # noqa: ARG002  # the interface
        """Attach to the kernel, which runs already."""
        self._attached = True
        return self.connection_info

    async def post_launch(self, **_kwargs: Any) -> None:
        """Keep the kernel manager from ending the kernel behind our back."""
        keep_from_ending(self._manager)

    async def get_provisioner_info(self) -> dict[str, Any]:
        """Give what another process needs to attach to the same kernel."""
        info: dict[str, Any] = await super().get_provisioner_info()
        ours = {"kernel": self._kernel, "generation": self._generation}
        return {**info, **ours, "connection": self._connection}

    async def load_provisioner_info(self, provisioner_info: dict[str, Any]) -> None:
        """Attach to what another process was attached to."""
        await super().load_provisioner_info(provisioner_info)
        self._kernel = provisioner_info["kernel"]
        self._generation = provisioner_info["generation"]
        self._connection = provisioner_info["connection"]
        self._attached = True

    def get_shutdown_wait_time(self, recommended: float = 5.0) -> float:
        """Give the seconds until we have let go: none are needed, so what is usual will do."""
        return recommended

    async def _choose(self, session: str) -> str:
        owner, name = split_owner(str(self.profile))
        settings = {} if owner else await self._daemon.settings(name)
        self._on_shutdown = settings.get("on_frontend_shutdown", "detach")
        if settings.get("instance") == "per-session":
            name = f"{name}@{instance_for(session, self.kernel_id)}"
        return f"{owner}/{name}" if owner else name

    def _adjust_manager(self) -> None:
        """Tell the kernel manager how the kernel is reached, and that we look after it."""
        manager = self._manager
        follow(manager)  # by its profile the daemon restarts it, or does not
        for port in port_names:
            setattr(manager, port, 0)
        manager.load_connection_info(self.connection_info)

    def _detach(self) -> None:
        """Let go, so that the manager finds no process."""
        self._attached = False


def _as_jupyter_has_it(connection: dict[str, Any]) -> Any:
    """Give a connection file's content in the form that jupyter_client passes around."""
    return {**connection, "key": connection["key"].encode()}
