"""Looks up other owners, and validates the replies of their daemons.

`kconnd.client` imports this module when a request to another owner's daemon needs it.
"""

from __future__ import annotations

import os
import pwd

from kconnd.core.untrusted_reply import validate_error, validate_reply
from kconnd.errors import NoSuchKernelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from kconnd.errors import KconndError


def find_uid(owner: str) -> int:
    """Find the uid of a user by name or number in the system's user database (getpwnam(3)).

    As for chown(1), a user whose name is a number takes precedence over the user with this uid.

    Raises
    ------
    NoSuchKernelError
        If there is no such user.
    """
    is_number = owner.isascii() and owner.isdecimal()
    try:
        try:
            user = pwd.getpwnam(owner)
        except KeyError:
            if not is_number:
                raise
            user = pwd.getpwuid(int(owner))
    except (KeyError, ValueError, OverflowError):
        raise NoSuchKernelError(
            f"there is no user {owner!r} on this machine", hint="kernels are named OWNER/NAME"
        ) from None
    return user.pw_uid


def foreign_error(fields: dict[str, Any], owner: int, path: str) -> KconndError:
    """Validate an error that another owner's daemon reports, and create the exception for it."""
    return validate_error(fields, _user_name(owner), path)


def foreign_reply(path: str, content: Any, owner: int) -> Any:
    """Validate a reply of another owner's daemon, and return its known fields."""
    return validate_reply(path, content, owner, _user_name(owner), _process_uid)


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _process_uid(pid: int) -> int | None:
    """Return the uid of a process; None if the process does not exist or is hidden (proc(5))."""
    try:
        return os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return None
