"""Explains why a daemon has no kernel of a name, and what a user can do about it."""

import difflib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from kconnd.core.names import parse_name, shown_spec
from kconnd.errors import NoSuchKernelError, UsageError


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
    specs : mapping
        Jupyter's names of the installed kernel specs, by kernel name.
    """

    names: Collection[str]
    log: str
    has_profile: bool
    hosts: Collection[str]
    specs: Mapping[str, str] = field(default_factory=dict)


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
        hint = _suggest_spec(name, known.specs)
    return NoSuchKernelError(error, hint=hint)


def explain_unknown_spec(text: str, specs: Mapping[str, str]) -> NoSuchKernelError:
    """Build the error for a name of Jupyter's syntax that no kernel spec and no kernel has.

    ``specs`` contains Jupyter's names of the installed kernel specs, by kernel name.
    """
    return NoSuchKernelError(
        f"there is no kernel {shown_spec(text)}, and no kernel spec of this name is installed",
        hint=_suggest_spec(text, specs),
    )


def describe_clash(text: str, name: str, holder: str) -> UsageError:
    """Build the error for a kernel spec whose derived name belongs to something else.

    Parameters
    ----------
    text, name : str
        Jupyter's name of the kernel spec, and the kernel name that is derived from it.
    holder : str
        A description of the profile or kernel spec that has the name.
    """
    spec = shown_spec(text.lower())
    return UsageError(
        f"the kernel spec {spec} would be named {name}, and {holder} has this name",
        hint=f"write a profile with another name and the line: kernel: {spec}",
    )


def _suggest_spec(text: str, specs: Mapping[str, str]) -> str:
    """Suggest an installed kernel spec with a similar name."""
    names = {spec: name for name, spec in specs.items()}
    similar = difflib.get_close_matches(text.lower(), sorted(names), n=1)
    if not similar:
        return "kconnd-ctl list shows all kernels"
    name = names[similar[0]]
    derived = "" if name == similar[0] else f", which is started as {name}"
    return f"did you mean {shown_spec(similar[0])}{derived}?"
