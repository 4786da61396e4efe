"""``kernel_info_request``s: until a starting kernel answers, and on each of its subshells."""

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any

from kconnd.core.kernel.activity import PROBE_INTERVAL_S
from kconnd.daemon.context import Channels

FIRST_ANSWER_RETRY_S = 5.0  # doubled each time: a starting kernel may drop a request
MAX_RETRY_S = 60.0
SUBSHELLS = "kernel subshells"  # in the features of a kernel_info_reply (JEP 91)


async def ask_each_shell(channels: Channels) -> Mapping[str, Any]:
    """Ask a kernel on its shell and on each of its subshells; return the reply on its shell.

    Raises
    ------
    ValueError
        If it has subshells and does not list them.
    """
    reply = await channels.kernel_info()
    features = reply.get("supported_features")
    if isinstance(features, list) and SUBSHELLS in features:
        await _ask_subshells(channels)
    return reply


async def _ask_subshells(channels: Channels) -> None:
    """Ask each subshell, and wait for the replies of all that still exist.

    A deleted subshell never answers, so the list is read again. The question is not repeated:
    copies of it would pile up behind a cell that takes hours.
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
    """Wait for a starting kernel's answer; repeat the question, which it may have dropped."""
    while True:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause):
                return await channels.kernel_info()
        pause = min(pause * 2, MAX_RETRY_S)
