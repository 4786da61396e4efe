"""Lists the kernel specs from which a kernel could be started, with the command of each.

A profile of a file has a kernel as soon as it is read, which `kconnd.daemon.api.queries` lists. A
kernel spec has none until its first start. The commands are built as for a start, without starting
anything; a kernel spec that cannot be started is listed with the error of its start.
"""

import errno
import shutil
from functools import partial
from typing import Any

from kconnd.core.launch.session import Inherited
from kconnd.core.names import jupyter_name
from kconnd.core.profile.model import Profile
from kconnd.daemon.api.request import Request
from kconnd.daemon.context import World
from kconnd.errors import StartFailedError
from kconnd.system.files.program_faults import describe_failed_exec, foresee_exec
from kconnd.system.hung_calls import BeginStep, StuckError
from kconnd.system.launch_files import command_of, find_inherited, read_in_steps
from kconnd.system.program_choice import ProgramHints


async def list_startable(request: Request) -> list[dict[str, Any]]:
    """Describe each installed kernel spec without a kernel, sorted by name."""
    kernels = request.kernels
    with_kernel = {actor.record.name for actor in kernels.all()}
    with_file = {*kernels.catalog.loaded.profiles, *kernels.catalog.loaded.first_faults}
    profiles = {
        name: profile
        for name, profile in sorted(kernels.catalog.installed().items())
        if name not in with_kernel | with_file
    }
    return [await _describe(kernels.world, name, profile) for name, profile in profiles.items()]


async def _describe(world: World, name: str, profile: Profile) -> dict[str, Any]:
    row: dict[str, Any] = {
        "name": name,
        "kernel_spec": profile.kernel,
        "jupyter_name": jupyter_name(name, profile.kernel) or None,
        "display_name": "",
        "argv": [],
        "error": "",
    }
    try:
        hints, inherited = await find_inherited(world, profile, world.program_hints())
        look_up = partial(_look_up, world, profile, hints, inherited)
        return row | await world.paths.run(look_up)
    except StartFailedError as error:
        return row | {"error": error.message}
    except StuckError as error:
        return row | {"error": str(error)}


def _look_up(
    world: World, profile: Profile, hints: ProgramHints, inherited: Inherited, begin: BeginStep
) -> dict[str, Any]:
    """Return the display name of a kernel spec, and the command that a start would run."""
    files = read_in_steps(world, profile, hints, inherited, begin)
    argv, env = command_of(world, profile, files)
    begin(f"looking for {argv[0]}")
    program = shutil.which(argv[0], path=env["PATH"])
    error = "" if program else _describe_missing(argv[0], files.cwd, env["PATH"])
    command = [program or argv[0], *argv[1:]]
    return {"display_name": files.spec.display_name, "argv": command, "error": error}


def _describe_missing(word: str, cwd: str, search_path: str) -> str:
    """Say why `shutil.which` finds no program: it does not exist, or cannot be executed."""
    number = foresee_exec(word, cwd, search_path)
    if number in {0, errno.ENOENT}:
        return f"running {word}: there is no such program"
    return describe_failed_exec(word, cwd, search_path, number).reason
