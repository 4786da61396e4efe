"""Sends ``kernel_info_request`` to a starting kernel, and to all shells of a running kernel."""

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any

from kconnd.core.kernel.activity import PROBE_INTERVAL_S
from kconnd.daemon.context import Channels

FIRST_ANSWER_RETRY_S = 5.0  # doubled each time; a starting kernel may drop a request
MAX_RETRY_S = 60.0
SUBSHELLS = "kernel subshells"  # a feature in kernel_info_reply (JEP 91)


async def ask_each_shell(channels: Channels) -> Mapping[str, Any]:
    """Send a request to the main shell and to each subshell; return the main shell's reply.

    Raises
    ------
    ValueError
        If the kernel supports subshells and its list of subshells is invalid.
    """
    reply = await channels.kernel_info()
    features = reply.get("supported_features")
    if isinstance(features, list) and SUBSHELLS in features:
        await _ask_subshells(channels)
    return reply


async def _ask_subshells(channels: Channels) -> None:
    """Send a request to each subshell, and wait for the replies of all existing subshells.

    A deleted subshell never answers. While replies are missing, the list of subshells is therefore
    read again, and deleted subshells are dropped. The request itself is sent once, because copies
    would accumulate behind a long cell.
    """
    listed = await channels.list_subshells()
    asking = {
        subshell: asyncio.ensure_future(channels.kernel_info(subshell=subshell))
        for subshell in listed
    }
    try:
        while asking:
            done, waiting = await asyncio.wait(
                asking.values(), timeout=PROBE_INTERVAL_S, return_when=asyncio.FIRST_EXCEPTION
            )
            for answered in done:
                answered.result()
            existing = await channels.list_subshells() if waiting else ()
            for deleted in asking.keys() - set(existing):
                asking.pop(deleted).cancel()
    finally:
        for question in asking.values():
            question.cancel()


async def ask_until_answered(channels: Channels, pause: float) -> Mapping[str, Any]:
    """Send ``kernel_info_request`` until a starting kernel answers; return the reply's content.

    A starting kernel may drop a request, so the request is repeated after a pause.
    """
    while True:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause):
                return await channels.kernel_info()
        pause = min(pause * 2, MAX_RETRY_S)
