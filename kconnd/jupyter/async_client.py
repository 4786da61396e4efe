"""Sends requests from Jupyter's event loop to the daemon, and names per-session kernels."""

import asyncio
import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from kconnd.attach import validated_connection
from kconnd.client import Client, find_socket, kernel_path
from kconnd.core.names import parse_name
from kconnd.errors import KconndError, UsageError
from kconnd.jupyter.kernel_follower import reason_of_end
from kconnd.spawn import client_or_start

TIMEOUTS_S = {"interrupt": 60.0, "signal": 60.0}  # other verbs have no timeout
MAX_STEM_CHARS = 30  # how much of a notebook's name is in the name of its kernel
ID_CHARS = 8  # how much of Jupyter's kernel id is in the name of a kernel without a notebook
DIGEST_CHARS = 6


def instance_for(session: str, kernel_id: str) -> str:
    """Derive the instance name of a per-session kernel from its notebook or from Jupyter's id.

    Parameters
    ----------
    session : str
        ``JPY_SESSION_NAME``: the path of the notebook, or ``""``.
    kernel_id : str
        Jupyter's id of the kernel.

    Returns
    -------
    str
        A valid instance name: the part of a kernel's name after the ``@``. Every session of one
        notebook gets the same instance. Notebooks with equal names in different folders get
        different instances.
    """
    if not session:
        return f"run-{kernel_id[:ID_CHARS]}"
    name = PurePosixPath(session).stem
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._")[:MAX_STEM_CHARS]
    digest = hashlib.sha256(session.encode()).hexdigest()[:DIGEST_CHARS]
    return f"{stem}-{digest}" if stem else f"session-{digest}"


def split_owner(profile: str) -> tuple[str, str]:
    """Split ``OWNER/NAME`` into owner and name; for ``NAME`` alone, the owner is ``""``.

    Raises
    ------
    UsageError
        If the owner is empty or the name is invalid.
    """
    owner, slash, name = profile.rpartition("/")
    if slash and not owner:
        raise UsageError(f"{profile!r}: the owner is missing")
    parse_name(name)
    return owner, name


class AsyncClient:
    """Sends requests to the daemon, each in a thread, so that the event loop is not blocked.

    If no daemon is running, the methods `settings` and `start` spawn a daemon. The other methods
    raise an error.
    """

    async def settings(self, profile: str) -> dict[str, Any]:
        """Return a profile's settings for front ends; ``{}`` if the profile does not exist."""
        reply = await asyncio.to_thread(lambda: client_or_start("").get("/v1/profiles"))
        rows: list[dict[str, Any]] = reply["profiles"]
        return next((row for row in rows if row["name"] == profile), {})

    async def get(self, kernel: str, resource: str = "") -> dict[str, Any]:
        """Send a GET request for a kernel or for a resource of the kernel."""
        return await asyncio.to_thread(lambda: _client().get(kernel_path(kernel, resource)))

    async def connection(self, kernel: str, state: Mapping[str, Any]) -> dict[str, Any]:
        """Return the content of a kernel's connection file, after a check of the sockets.

        The sockets must belong to the kernel's owner.

        Parameters
        ----------
        kernel : str
            The kernel's name.
        state : mapping
            The daemon's description of the kernel.

        Raises
        ------
        KconndError
            See `kconnd.attach.validated_connection`.
        """
        content = await self.get(kernel, "connection")
        uid, owner = state.get("uid", os.geteuid()), state["owner"]
        connection = await asyncio.to_thread(validated_connection, content, kernel, uid, owner)
        return connection.to_file()

    async def reason_of_end(self, kernel: str) -> str:
        """Return why a kernel's last process ended; ``""`` if this is unknown."""
        try:
            reply = await self.get(kernel, "why")
        except KconndError:
            return ""
        return reason_of_end(reply["decisions"])

    async def start(self, kernel: str) -> dict[str, Any]:
        """Start a kernel unless it is up; return the kernel's state.

        If the kernel is not up and its profile says ``start: manual``, the daemon refuses the
        start, and this method raises the daemon's error.
        """
        state: dict[str, Any] = await asyncio.to_thread(
            lambda: client_or_start("").launch(kernel, body={"on_demand": True})
        )
        return state

    async def post(
        self, kernel: str, verb: str, body: Mapping[str, object] | None = None
    ) -> dict[str, Any]:
        """Send a command to a kernel; return the kernel's state."""
        if verb == "restart":
            restarted: dict[str, Any] = await asyncio.to_thread(
                lambda: _client().launch(kernel, verb, body)
            )
            return restarted
        state: dict[str, Any] = await asyncio.to_thread(
            lambda: _client().request(
                "POST", kernel_path(kernel, verb), dict(body or {}), limit=TIMEOUTS_S.get(verb)
            )
        )
        return state

    async def list(self) -> list[dict[str, Any]]:
        """List all kernels."""
        reply = await asyncio.to_thread(lambda: _client().get("/v1/kernels"))
        kernels: list[dict[str, Any]] = reply["kernels"]
        return kernels


def _client() -> Client:
    return Client(find_socket(os.environ))
