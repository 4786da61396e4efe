r"""The syntax of kernel names, ``NAME`` or ``NAME@INSTANCE``, and of accounts and groups.

A name is used as a file name, in a socket path and as a word on a command line. The syntax
therefore excludes characters that need quoting, and names such as ``..`` that lead out of a folder.
An instance of a profile has ``@`` in its name.

kconnd does not choose the names of accounts and groups. Directory services have names with blanks,
backslashes, quotes and letters of any language, such as ``EXAMPLE\jane doe``. These names are
compared and shown, and are part of no path, unit or command.
"""

import re
from functools import lru_cache

from kconnd.errors import UsageError

MAX_ACCOUNT_CHARS = 256  # LOGIN_NAME_MAX of Linux
NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}"
_PART = re.compile(NAME_PATTERN)


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
