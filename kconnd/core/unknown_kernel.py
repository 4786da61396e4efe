"""Explains why a daemon has no kernel of a name, and what a user can do about it."""

import difflib
from collections.abc import Collection
from dataclasses import dataclass

from kconnd.core.names import parse_name
from kconnd.errors import NoSuchKernelError


@dataclass(frozen=True)
class NameSearch:
    """What a daemon knows about an unknown name.

    Parameters
    ----------
    names : collection of str
        The names of the daemon's kernels and profiles.
    log : str
        The log of the kernel that had this name until its profile was removed; ``""`` if none.
    has_profile : bool
        Whether the part of the name before ``@`` is the name of a profile.
    hosts : collection of str
        The other machines with the owner's home folder that have a live kernel of this name.
    """

    names: Collection[str]
    log: str
    has_profile: bool
    hosts: Collection[str]


def explain_unknown(name: str, known: NameSearch) -> NoSuchKernelError:
    """Build the error for an unknown name, with the most helpful hint."""
    base, instance = parse_name(name)
    if known.log:
        return NoSuchKernelError(
            f"there is no kernel {name} any more: its profile or kernel spec was removed",
            hint=f"restore {base} to start it; its log is {known.log}",
        )
    error = f"there is no kernel {name}"
    if known.hosts:
        hint = f"{', '.join(known.hosts)}: a kernel {name} runs there, with this home folder"
    elif instance and known.has_profile:
        hint = f"kconnd-ctl start {name} creates it from the profile {base}"
    elif similar := difflib.get_close_matches(name, sorted(known.names), n=1):
        hint = f"did you mean {similar[0]}?"
    else:
        hint = "kconnd-ctl list shows all kernels"
    return NoSuchKernelError(error, hint=hint)
