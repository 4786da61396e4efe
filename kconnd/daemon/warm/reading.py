"""Finds out which files a warm kernel has read; a change of one makes the kernel outdated.

A Python kernel lists its files itself, exactly. For any other kernel, the files that its processes
use, its program and package folders, and the usual startup files stand for the files that it has
read.
"""

import asyncio
from collections.abc import Collection, Mapping
from typing import Any

from kconnd.core.kernel.learned import facts_of
from kconnd.core.launch.plan import LaunchPlan
from kconnd.core.launch.warm import READING, FilesRead, files_of_process, parse_reading
from kconnd.daemon.context import Channels
from kconnd.errors import StartFailedError
from kconnd.launchers.base import Handle
from kconnd.system.files.signatures import Signatures
from kconnd.system.process.open_files import files_in_use

IPYKERNEL = "ipython"  # the implementation that ipykernel reports


def language_of(answer: Mapping[str, Any]) -> str:
    """Return the language that a kernel reports in its reply to ``kernel_info_request``."""
    return str(facts_of(answer).get("language", ""))


async def list_files(
    channels: Channels,
    plan: LaunchPlan,
    handle: Handle,
    answer: Mapping[str, Any],
    software: Collection[str],
) -> FilesRead:
    """List the files that a kernel has read.

    Parameters
    ----------
    channels, plan, handle : Channels, LaunchPlan, Handle
        The connection to the kernel, the plan of its launch, and its process.
    answer : mapping
        The kernel's reply to ``kernel_info_request``.
    software : collection of str
        The kernel's program and package folders.

    Raises
    ------
    StartFailedError
        If an ipykernel does not list its files.
    """
    if language_of(answer) == "python":
        if reading := parse_reading(await channels.evaluate(READING)):
            return reading
        if facts_of(answer).get("implementation") == IPYKERNEL:
            raise StartFailedError("it did not list the files that it has read")
    in_use = await asyncio.to_thread(files_in_use, handle.kernel)
    return files_of_process(plan, {*software, *in_use})


def take_signatures(reading: FilesRead, cwd: str, since: float) -> Signatures:
    """Record the state of the files that a kernel has read since its launch.

    Parameters
    ----------
    reading, cwd : FilesRead, str
        The files, and the working folder of the kernel.
    since : float
        The time of the launch, in seconds since the epoch.

    Raises
    ------
    StartFailedError
        If a file was changed after the launch. The kernel may have read the file before the change.
    """
    signatures = Signatures(reading, cwd)
    if changed := signatures.first_changed_since(since):
        raise StartFailedError(f"{changed} was changed while it started")
    return signatures
