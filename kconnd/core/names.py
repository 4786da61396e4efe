r"""The syntax of kernel names, of accounts and groups, and the kernel names of kernel specs.

A kernel's name is ``NAME``, or ``NAME@INSTANCE`` for an instance of a profile. A name is used as a
file name, in a socket path, in the name of a unit and as a word on a command line. The syntax
therefore excludes characters that need quoting, and names such as ``..`` that lead out of a folder.

An installed kernel spec can be started without a profile, and Jupyter's names of kernel specs have
a wider syntax: jupyter_client (8.10 was tried) accepts each name that a folder can have, and
compares names in lower case. A kernel spec whose name is a kernel name keeps this name. For any
other kernel spec, `derived_name` derives a kernel name. Paths, units, command lines and log lines
contain the derived name alone. Texts for users show Jupyter's name beside it, escaped by
`shown_spec`.

How two names stay different. The derived name is a function of Jupyter's name alone, so it is the
same on each machine and after each restart, whatever else is installed. It ends in a digest of the
whole name, because its readable part drops characters. A function of the name alone cannot avoid
all names that other kernels may have: every kernel name is a possible name of a profile. So
`name_specs`, which knows the installed kernel specs, compares. A profile or kernel spec that has a
name literally takes precedence. A kernel spec whose derived name is used by another one gets no
name and is reported. Its user gives it a name by a profile with the key ``kernel``.

kconnd does not choose the names of accounts and groups. Directory services have names with blanks,
backslashes, quotes and letters of any language, such as ``EXAMPLE\jane doe``. These names are
compared and shown, and are part of no path, unit or command.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache

from kconnd.errors import UsageError

MAX_ACCOUNT_CHARS = 256  # LOGIN_NAME_MAX of Linux
NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}"
MAX_SPEC_BYTES = 6 * 255  # Linux limits a file name to 255 bytes; an escape of one byte has six
DIGEST_CHARS = 8
MAX_STEM_CHARS = 31  # a derived name has at most 40 characters with its digest
EMPTY_STEM = "spec"  # replaces the readable part if no character of a name is left

_PART = re.compile(NAME_PATTERN)
_DROPPED = re.compile(r"[^a-z0-9._]+")  # ASCII only: character tables of Unicode change


@lru_cache(1024)  # each request parses its kernel's name several times; errors are not cached
def parse_name(text: str) -> tuple[str, str]:
    """Split a kernel name into profile and instance.

    Parameters
    ----------
    text : str
        ``NAME`` or ``NAME@INSTANCE``.

    Returns
    -------
    tuple of str
        Profile name and instance; the instance is ``""`` for the profile's own kernel.

    Raises
    ------
    UsageError
        If either part is not a valid name.
    """
    profile, at, instance = text.partition("@")
    for part in (profile, instance) if at else (profile,):
        if not _PART.fullmatch(part):
            raise UsageError(
                f"{text!r} is not a kernel name",
                hint="a name has up to 40 letters, digits, dots, dashes and underscores, begins "
                "with a letter or digit, and may be followed by @ and an instance of that form",
            )
    return profile, instance


def is_account_name(text: str) -> bool:
    """Return whether a text can be the name of an account or a group, as systemd accepts them.

    A colon and a line end separate fields in passwd(5), and a slash ends the owner in OWNER/NAME.
    """
    return (
        0 < len(text) <= MAX_ACCOUNT_CHARS
        and text.isprintable()
        and text == text.strip()
        and not text.startswith("-")
        and text not in {".", ".."}
        and not set(":/") & set(text)
    )


def kernel_name(text: str) -> str:
    """Return the kernel's name for a text that is a kernel name or Jupyter's name of a kernel spec.

    A text that is a kernel name, with or without an instance, is returned unchanged.

    Raises
    ------
    UsageError
        If the text is neither a kernel name nor a possible name of a kernel spec.
    """
    try:
        parse_name(text)
    except UsageError:
        if not is_spec_name(text):
            raise
        return derived_name(text)
    return text


def is_spec_name(text: str) -> bool:
    """Return whether Jupyter can have a kernel spec of this name: whether a folder can have it."""
    if text in {"", ".", ".."} or "/" in text or "\0" in text:
        return False
    try:
        return len(text.encode()) <= MAX_SPEC_BYTES
    except UnicodeEncodeError:  # half a surrogate pair
        return False


def derived_name(spec: str) -> str:
    """Derive a kernel name from Jupyter's name of a kernel spec: a readable part and a digest."""
    from hashlib import sha256  # noqa: PLC0415  # few kernel specs need it

    spec = spec.lower()
    digest = sha256(spec.encode()).hexdigest()[:DIGEST_CHARS]
    stem = _DROPPED.sub("-", spec).strip("-._")[:MAX_STEM_CHARS].rstrip("-._")
    return f"{stem or EMPTY_STEM}-{digest}"


def jupyter_name(name: str, spec: str) -> str:
    """Return Jupyter's name of a kernel's spec if the kernel's name is derived from it.

    For any other kernel, return ``""``.

    Parameters
    ----------
    name : str
        The kernel's name; an instance is ignored.
    spec : str
        The kernel spec of the kernel's profile; ``""`` for a profile without a kernel spec.
    """
    base = name.partition("@")[0]
    if not spec or spec == base or _PART.fullmatch(spec) or derived_name(spec) != base:
        return ""
    return spec.lower()


def shown_spec(spec: str) -> str:
    """Return a kernel spec's name for texts: quoted, and escaped, unless it is a kernel name."""
    return spec if _PART.fullmatch(spec) else repr(spec)


@dataclass(frozen=True)
class SpecNames:
    """The kernel names of the installed kernel specs.

    Parameters
    ----------
    specs : dict
        Jupyter's name of each kernel spec that has a kernel name, by this name.
    clashes : dict
        The kernel specs without a kernel name: for each Jupyter's name, Jupyter's name of the
        kernel spec that has the same derived name, or that has this name literally.
    """

    specs: dict[str, str]
    clashes: dict[str, str]


def name_specs(specs: Iterable[str], derive: Callable[[str], str] = derived_name) -> SpecNames:
    """Assign a kernel name to each installed kernel spec.

    Parameters
    ----------
    specs : iterable of str
        Jupyter's names, in lower case.
    derive : callable
        The function that derives a kernel name.
    """
    specs = sorted(set(specs))
    literal = {spec: spec for spec in specs if _PART.fullmatch(spec)}
    by_name: dict[str, list[str]] = {}
    for spec in specs:
        if spec not in literal:
            by_name.setdefault(derive(spec), []).append(spec)
    derived: dict[str, str] = {}
    clashes: dict[str, str] = {}
    for name, candidates in by_name.items():
        if name in literal:
            clashes |= dict.fromkeys(candidates, name)
        elif len(candidates) == 1:
            derived[name] = candidates[0]
        else:
            # Neither gets the name: which one had it would depend on what else is installed.
            clashes |= {spec: _other(spec, candidates) for spec in candidates}
    return SpecNames(literal | derived, clashes)


def _other(spec: str, candidates: Iterable[str]) -> str:
    return next(candidate for candidate in candidates if candidate != spec)
