"""Suggests a line of ``setup`` after a login shell has not found conda or environment modules."""

import contextlib
from functools import partial
from pathlib import Path

from kconnd.core.launch.missing_tool import (
    activation_lines,
    find_missing_tool,
    hint_for_missing_tool,
)
from kconnd.core.launch.plan import User
from kconnd.system.hung_calls import BeginStep, PathSteps, StuckError


async def hint_about_setup(paths: PathSteps, user: User, output: str) -> str:
    """Return a hint if a kernel's output says that its shell has not found a tool; else ``""``."""
    tool, line = find_missing_tool(output), ""
    if not tool:
        return ""
    with contextlib.suppress(StuckError):
        line = await paths.run(partial(find_activation, tool, user))
    return hint_for_missing_tool(tool, line)


def find_activation(tool: str, user: User, begin: BeginStep) -> str:
    """Return the line of ``setup`` that makes a tool known; ``""`` if no such file is found.

    Raises
    ------
    StuckError
        If a disk or file server does not answer.
    """
    for path, line in activation_lines(tool, user.shell, user.home):
        begin(f"looking for {path}")
        if Path(path).is_file():
            return line
    return ""
