"""The kernel provisioner ``kconnd``: Jupyter attaches to a kernel that the daemon runs.

``kconnd-ctl kernelspec install`` writes kernel specs that name this provisioner. Jupyter treats the
kernel like a kernel that Jupyter has launched. When Jupyter tries to end the kernel, the
provisioner detaches from the kernel instead. Source of the interface: "Kernel Provisioning" in the
jupyter_client documentation.

Rules. Where jupyter_client has a documented interface, this module uses that interface: the methods
of a provisioner, and the traits of the kernel manager (``autorestart``, ``restarter_class``,
``client_factory``, the ports, `load_connection_info`, ``shutting_down``). `kconnd.jupyter.detach`
replaces the parts of a manager that end a kernel without calling the provisioner. ``tests/jupyter``
runs with the oldest and the newest supported jupyter_client.
"""

import logging
import os
import signal
from typing import Any

from jupyter_client.connect import KernelConnectionInfo, port_names
from jupyter_client.provisioning.provisioner_base import KernelProvisionerBase
from traitlets import Bool, Unicode

from kconnd.core.launch.notebook import Notebook
from kconnd.core.notebook_kernels import choose_instance, notebooks_of
from kconnd.errors import (
    KconndError,
    NoSuchKernelError,
    NotRunningError,
    RefusedError,
    StartFailedError,
)
from kconnd.jupyter.async_client import AsyncClient, split_owner
from kconnd.jupyter.detach import keep_from_ending
from kconnd.jupyter.notebook_session import find_notebook, is_run, read_notebook
from kconnd.jupyter.restarter import (
    UNKNOWN_EXIT,
    UP,
    Fate,
    ProcessStatus,
    leave_restarts_to_daemon,
    process_status,
)

log = logging.getLogger("kconnd")


class KconndProvisioner(KernelProvisionerBase):
    """Attaches a kernel manager to a kernel of the daemon."""

    profile = Unicode(
        config=True,
        help="A kconnd profile or a kernel spec, or OWNER/NAME for a kernel that another user "
        "shares.",
    )
    # kconnd.jupyter.server sets this attribute, because a provisioner cannot know who requested a
    # shutdown.
    user_requested_shutdown = Bool(default_value=False)

    _kernel = ""  # the kernel's name with instance and owner
    _generation = 0
    _connection: dict[str, Any]  # the content of the kernel's connection file
    _attached = False
    _restarting = False
    _on_shutdown = "detach"
    _is_run = False
    _notebook: Notebook | None = None  # of a per-session kernel, as the daemon knows it
    _ends_with_run = False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._daemon = AsyncClient()
        self._connection = {}

    @property
    def kernel(self) -> str:
        """The kernel's name in kconnd; ``""`` before the start."""
        return self._kernel

    @property
    def _manager(self) -> Any:
        """The kernel manager that this provisioner belongs to."""
        return self.parent

    @property
    def has_process(self) -> bool:
        """Whether a kernel is attached."""
        return self._attached

    @property
    def generation(self) -> int:
        """The generation of the attached process."""
        return self._generation

    async def poll(self) -> int | None:
        """Return None while the attached process is running, and its exit status afterwards.

        When the daemon restarts the kernel, the memory of the old process is lost, and clients that
        wait for a reply of the old process must be notified. The first poll after a restart
        therefore returns an exit status. If the new process has the connection of the old process,
        the next poll returns the status of the new process.
        """
        if not self._attached:
            return UNKNOWN_EXIT
        status = await self.poll_status()
        return None if status is None or status.fate is Fate.RUNNING else status.code

    async def poll_status(self) -> ProcessStatus | None:
        """Query the status of the attached process; if it was replaced, attach to the new process.

        Returns
        -------
        ProcessStatus, optional
            None if the daemon did not answer; the kernel may then still be running.
        """
        await self._follow_notebook()
        try:
            kernel = await self._daemon.get(self._kernel)
            same_connection = await self._has_same_connection(kernel)
        except NoSuchKernelError:
            return ProcessStatus(Fate.ENDED, self._generation)
        except KconndError as error:
            log.warning("querying the state of %s: %s", self._kernel, error.message)
            return None
        status = process_status(kernel, self._generation, same_connection=same_connection)
        if kernel["state"] in UP and status.fate is Fate.REPLACED:
            self._generation = status.generation
        return status

    async def reason_of_end(self) -> str:
        """Query why the last process ended; ``""`` if this is unknown."""
        return await self._daemon.reason_of_end(self._kernel)

    async def _has_same_connection(self, kernel: dict[str, Any]) -> bool:
        """Return whether the present process has the key and ports that the kernel manager uses.

        If the kernel has no process at present, return True.
        """
        if kernel["state"] not in UP or kernel["generation"] == self._generation:
            return True
        return await self._daemon.connection(self._kernel, kernel) == self._connection

    async def wait(self) -> int | None:
        """Return the result of `poll`."""
        return await self.poll()

    async def send_signal(self, signum: int) -> None:
        """Interrupt or signal the kernel; do nothing while the manager shuts the kernel down."""
        if not self._attached or getattr(self._manager, "shutting_down", False):
            return
        if signum == signal.SIGINT:
            try:
                await self._daemon.post(self._kernel, "interrupt")
            except NotRunningError as error:
                # Jupyter's local provisioner ignores a signal to a process that has ended, too.
                log.warning("%s", error.message)
        elif signum != 0:
            await self._daemon.post(self._kernel, "signal", {"signal": signum})

    async def kill(self, restart: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002  # the interface
        """Detach from the kernel."""
        await self._follow_notebook()
        self._detach()

    async def terminate(self, restart: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002  # the interface
        """Detach from the kernel."""
        self._detach()

    async def shutdown_requested(self, restart: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002  # the interface
        """Detach from the kernel."""
        await self._follow_notebook()
        self._detach()

    async def cleanup(self, restart: bool = False) -> None:  # noqa: FBT001, FBT002  # the interface
        """Stop the kernel of a run, or if a user requested the shutdown and the profile says so.

        The settings of the profile are ``on_frontend_shutdown: stop`` for a shutdown that a user
        requests, and any other value than ``detach`` for a kernel that a run has to itself.
        """
        self._restarting = restart
        by_user, self.user_requested_shutdown = self.user_requested_shutdown, False
        is_wanted = (by_user and self._on_shutdown == "stop") or self._ends_with_run
        if is_wanted and not restart and self._kernel:
            await self._daemon.post(self._kernel, "stop")

    async def pre_launch(self, **kwargs: Any) -> dict[str, Any]:
        """Start or restart the kernel, and load its connection into the kernel manager."""
        notebook, self._is_run = read_notebook(kwargs, os.environ), is_run(self._manager, kwargs)
        kwargs = await super().pre_launch(cmd=[], **kwargs)
        restarting, self._restarting = self._restarting, False
        if restarting and self._kernel:
            kernel = await self._restart()
        else:
            self._kernel = await self._choose_kernel(notebook)
            kernel = await self._daemon.start(self._kernel, notebook, is_run=self._is_run)
        self._generation = kernel["generation"]
        self._connection = await self._daemon.connection(self._kernel, kernel)
        self._check_encryption()
        self.connection_info = _as_connection_info(self._connection)
        self._adjust_manager()
        return kwargs

    async def _restart(self) -> dict[str, Any]:
        """Restart the kernel; if the daemon refuses, stay attached and raise the error."""
        try:
            return await self._daemon.post(self._kernel, "restart")
        except RefusedError:
            self._attached = True
            raise

    def _check_encryption(self) -> None:
        """Refuse an encrypted connection if the installed jupyter_client does not support CURVE.

        Without this check, Jupyter would wait in vain for an answer of the kernel.

        Raises
        ------
        StartFailedError
            If the connection is encrypted and the kernel manager has no traits for CURVE.
        """
        if "curve_publickey" in self._connection and not self._manager.has_trait("curve_publickey"):
            raise StartFailedError(
                f"attaching to {self._kernel}: its connection is encrypted (CURVE), and this "
                "jupyter_client does not support that",
                hint="run in the environment of Jupyter: pip install 'jupyter_client>=8.9'",
            )

    async def launch_kernel(self, cmd: list[str], **_kwargs: Any) -> KernelConnectionInfo:  # noqa: ARG002  # the interface
        """Attach to the kernel, which `pre_launch` has started."""
        self._attached = True
        return self.connection_info

    async def post_launch(self, **_kwargs: Any) -> None:
        """Prevent the kernel manager from ending the kernel without calling this provisioner."""
        keep_from_ending(self._manager)

    async def get_provisioner_info(self) -> dict[str, Any]:
        """Return the data that another process needs to attach to this kernel."""
        info: dict[str, Any] = await super().get_provisioner_info()
        process = {"kernel": self._kernel, "generation": self._generation}
        return {**info, **process, "connection": self._connection}

    async def load_provisioner_info(self, provisioner_info: dict[str, Any]) -> None:
        """Attach to a kernel with the data of another process's provisioner."""
        await super().load_provisioner_info(provisioner_info)
        self._kernel = provisioner_info["kernel"]
        self._generation = provisioner_info["generation"]
        self._connection = provisioner_info["connection"]
        self._attached = True

    def get_shutdown_wait_time(self, recommended: float = 5.0) -> float:
        """Return ``recommended``: any time is long enough, because detaching takes no time."""
        return recommended

    async def _choose_kernel(self, notebook: Notebook) -> str:
        """Read the profile's settings, and return the name of the kernel to attach to."""
        owner, name = split_owner(str(self.profile))
        settings = {} if owner else await self._daemon.settings(name)
        self._on_shutdown = settings.get("on_frontend_shutdown", "detach")
        if settings.get("instance") == "per-session":
            # A daemon of an earlier version says ``detach`` unless the profile says ``stop``.
            self._ends_with_run = self._is_run and self._on_shutdown != "detach"
            kernels = notebooks_of(name, await self._daemon.list(quick=True))
            name = f"{name}@{choose_instance(notebook, self.kernel_id, kernels)}"
            self._notebook = notebook
        return f"{owner}/{name}" if owner else name

    async def _follow_notebook(self) -> None:
        """Tell the daemon if the notebook was renamed, moved, saved elsewhere or replaced.

        No event reports this to a provisioner.
        """
        if self._notebook is None or self._is_run:
            return
        present = await find_notebook(self._manager)
        if present is None or present == self._notebook:
            return
        self._notebook = present
        try:
            await self._daemon.post(self._kernel, "notebook", {"notebook": present.to_json()})
        except KconndError as error:  # a daemon of an earlier version does not know this request
            log.debug("following the notebook of %s: %s", self._kernel, error.message)

    def _adjust_manager(self) -> None:
        """Load the connection into the manager; leave restarts and interrupts to the daemon."""
        manager = self._manager
        leave_restarts_to_daemon(manager)
        # load_connection_info does not overwrite a port unless the port is 0.
        for port in port_names:
            setattr(manager, port, 0)
        manager.load_connection_info(self.connection_info)
        # Jupyter then interrupts by `send_signal`. The daemon interrupts the kernel in the way that
        # the kernel's own spec names; the file of this spec names that way, too.
        manager.kernel_spec.interrupt_mode = "signal"

    def _detach(self) -> None:
        """Detach from the kernel, so that the manager sees no process that it could end."""
        self._attached = False


def _as_connection_info(connection: dict[str, Any]) -> Any:
    """Convert a connection file's content to jupyter_client's `KernelConnectionInfo`."""
    return {**connection, "key": connection["key"].encode()}
