"""Chooses the program of a launch: gathers the places in which it can be, and searches them.

`kconnd.core.launch.program_search` decides. This module reads files, each in a step that may hang.
A restart runs the program of the kernel's first start, so that another one that comes first on
``PATH`` does not replace it. If the program is gone, the restart is refused.
"""

from dataclasses import dataclass, replace

from kconnd.core.launch.kernelspec_file import KernelSpec
from kconnd.core.launch.plan import SYSTEM_PATH
from kconnd.core.launch.program_search import (
    Places,
    Program,
    check_kept,
    find_owner_environment,
    find_program,
    is_bare,
)
from kconnd.core.launch.session import Session
from kconnd.core.profile.model import Profile
from kconnd.system.files.program_files import ProgramFiles
from kconnd.system.hung_calls import BeginStep
from kconnd.system.kernelspecs import environment_of


@dataclass(frozen=True)
class ProgramHints:
    """What is known of the owner's client that requested the start, and of the previous process.

    Parameters
    ----------
    prefix : str
        The environment of the owner's own ``kconnd-ctl``; ``""`` if it is not known.
    path : str
        The owner's ``PATH``.
    path_source : str
        Where this ``PATH`` comes from, for the user.
    kept : Program, optional
        The program of the kernel's previous process; None for a start that searches anew.
    service_prefix : str
        The Python environment of the machine's service; ``""`` if the daemon does not belong to it.
    session : Session, optional
        The session of the owner's client; None if no client has sent one.
    """

    prefix: str = ""
    path: str = SYSTEM_PATH
    path_source: str = "standard PATH"
    kept: Program | None = None
    service_prefix: str = ""
    session: Session | None = None


class ProgramChooser:
    """Chooses the program of one launch.

    Parameters
    ----------
    profile : Profile
        The kernel's profile.
    hints : ProgramHints
        What is known of the owner's client.
    begin : callable
        Called with a description of each step when the step begins.
    """

    def __init__(self, profile: Profile, hints: ProgramHints, begin: BeginStep) -> None:
        self._kept = hints.kept
        self._files = ProgramFiles(begin)
        self._places = Places(
            client=(hints.session.client if hints.session is not None else "") or "kconnd-ctl",
            client_prefix=hints.prefix,
            owner_path=hints.path,
            owner_path_source=hints.path_source,
            service_prefix=hints.service_prefix,
            named_by="the kernel spec" if profile.kernel else "the profile",
            by_shell=profile.shell == "login",
            after_setup=profile.shell == "login" and bool(profile.setup),
        )

    def find_prefix(self) -> str:
        """Return the environment of the owner's Jupyter, or ``""``."""
        return find_owner_environment(self._places, self._files)

    def choose(self, spec: KernelSpec, cwd: str, kernel_path: str) -> Program:
        """Find the program of a launch.

        Parameters
        ----------
        spec : KernelSpec
            The kernel spec.
        cwd : str
            The working directory.
        kernel_path : str
            The kernel's ``PATH``.

        Raises
        ------
        StartFailedError
            If there is no such program.
        """
        word, kept = spec.argv[0], self._kept
        is_same = kept is not None and (kept.word, kept.spec_dir) == (word, spec.resource_dir)
        if kept is not None and is_same and is_bare(word) and not is_bare(kept.path):
            return check_kept(kept, self._files)
        places = replace(self._places, cwd=cwd, kernel_path=kernel_path)
        if is_bare(word) and spec.resource_dir:
            places = replace(places, prefix=spec.prefix, environment=environment_of(spec))
        return find_program(spec, places, self._files)
