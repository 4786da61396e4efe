"""Ask the daemon from an event loop, and what a front end's session is to be called."""

import asyncio
import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from kconnd.attach import reached
from kconnd.client import Client, find_socket, kernel_path
from kconnd.core.names import parse_name
from kconnd.errors import UsageError
from kconnd.spawn import client_or_start

LIMITS_S = {"interrupt": 60.0, "signal": 60.0}  # what else is asked for takes as long as it takes
LONGEST = 30  # characters of a notebook's name in its kernel's


def instance_for(session: str, kernel_id: str) -> str:
    """Name the kernel of one front end's session: after its notebook, where it has one.

    Parameters
    ----------
    session : str
        ``JPY_SESSION_NAME``, the notebook's path, or ``""``.
    kernel_id : str
        What Jupyter calls the kernel.

    Returns
    -------
    str
        What may stand after the ``@`` of a kernel's name. The same notebook gets the same one;
        two of the same name in other folders do not.
    """
    if not session:
        return f"run-{kernel_id[:8]}"
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", PurePosixPath(session).stem).strip("-._")[:LONGEST]
    digest = hashlib.sha256(session.encode()).hexdigest()[:6]
    return f"{stem}-{digest}" if stem else f"session-{digest}"


def split_owner(profile: str) -> tuple[str, str]:
    """Split ``OWNER/NAME``, where the owner may be missing.

    Raises
    ------
    UsageError
        If the name is none.
    """
    owner, slash, name = profile.rpartition("/")
    if slash and not owner:
        raise UsageError(f"{profile!r}: the owner is missing")
    parse_name(name)
    return owner, name


class Asker:
    """The daemon, asked in threads; what has to run is started with it, a look-up starts none."""

    async def settings(self, profile: str) -> dict[str, Any]:
        """Give what a profile says about front ends; nothing for one that is not written down."""
        reply = await asyncio.to_thread(lambda: client_or_start("").get("/v1/profiles"))
        rows: list[dict[str, Any]] = reply["profiles"]
        return next((row for row in rows if row["name"] == profile), {})

    async def get(self, kernel: str, what: str = "") -> dict[str, Any]:
        """Look something up of a kernel."""
        return await asyncio.to_thread(lambda: _client().get(kernel_path(kernel, what)))

    async def connection(self, kernel: str, found: Mapping[str, Any]) -> dict[str, Any]:
        """Learn how a kernel is reached, and see that this leads to its owner.

        Parameters
        ----------
        kernel : str
            Its name.
        found : mapping
            What the daemon says of it.

        Raises
        ------
        KconndError
            As `kconnd.attach.reached`.
        """
        content = await self.get(kernel, "connection")
        uid, owner = found.get("uid", os.geteuid()), found["owner"]
        way = await asyncio.to_thread(reached, content, kernel, uid, owner)
        return way.to_file()

    async def start(self, kernel: str) -> dict[str, Any]:
        """Have a kernel started, where its profile lets whoever needs it do that."""
        path = kernel_path(kernel, "start")
        found: dict[str, Any] = await asyncio.to_thread(
            lambda: client_or_start("").post(path, {"on_demand": True})
        )
        return found

    async def post(
        self, kernel: str, verb: str, body: Mapping[str, object] | None = None
    ) -> dict[str, Any]:
        """Have something done to a kernel."""
        found: dict[str, Any] = await asyncio.to_thread(
            lambda: _client().request(
                "POST", kernel_path(kernel, verb), dict(body or {}), limit=LIMITS_S.get(verb)
            )
        )
        return found

    async def list(self) -> list[dict[str, Any]]:
        """List all kernels."""
        reply = await asyncio.to_thread(lambda: _client().get("/v1/kernels"))
        found: list[dict[str, Any]] = reply["kernels"]
        return found


def _client() -> Client:
    return Client(find_socket(os.environ))
