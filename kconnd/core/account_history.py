"""Which account a uid is, as time goes by: pure decisions.

All that kconnd keeps for a user on a server is named by uid, and a uid can be given to another
account once the first is deleted. An account is known by its name. So the name is remembered with
the uid, and another name counts as another account: what there is of the first one is put aside,
and the second one starts with nothing. A renamed account looks the same from here; an
administrator hands over what was put aside (``kconnd-front --hand-over UID``).

Accounts of one uid are numbered from 1. The number is part of the names of their kernels' units,
since those of an earlier account can still run.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from kconnd.errors import StateFileError

NO_UIDS = frozenset({(1 << 16) - 1, (1 << 32) - 1})  # -1 as 16 and 32 bits: systemd(1) has no such
ROOT_UID = 0
_NUMBERED = re.compile(r":([1-9][0-9]{0,8})\.(service|scope)$", re.ASCII)


@dataclass(frozen=True)
class Account:
    """Who a uid belongs to.

    Parameters
    ----------
    name : str
        The login name.
    number : int
        Which account of its uid it is; the first one that we saw is 1.
    """

    name: str
    number: int = 1


@dataclass(frozen=True)
class RuntimeOwner:
    """Whose a runtime folder is that is named by uid, on a machine without a front door.

    Parameters
    ----------
    name : str
        The login name.
    device, inode : int
        Of the state folder, which is in the account's home.
    """

    name: str
    device: int
    inode: int

    def is_same(self, other: "RuntimeOwner") -> bool:
        """Tell whether it is one account: by its name, or renamed, by its state folder."""
        same_folder = (self.device, self.inode) == (other.device, other.inode)
        return same_folder or self.name == other.name

    def as_dict(self) -> dict[str, object]:
        """Give what is kept in a file."""
        return asdict(self)


def parse_runtime_owner(text: bytes) -> RuntimeOwner:
    """Read what is kept in a file.

    Raises
    ------
    ValueError
        If it is something else.
    """
    try:
        found = json.loads(text)
        name, device, inode = found["name"], found["device"], found["inode"]
    except (TypeError, KeyError, RecursionError):
        raise ValueError("no owner") from None
    if not isinstance(name, str) or not isinstance(device, int) or not isinstance(inode, int):
        raise ValueError("no owner")  # noqa: TRY004  # it is the content that is wrong
    return RuntimeOwner(name, device, inode)


def is_usable_uid(uid: int) -> bool:
    """Tell whether a process can run as a uid; two numbers stand for none."""
    return 0 <= uid < 1 << 32 and uid not in NO_UIDS


def current_account(known: Account | None, name: str, used: Iterable[int] = ()) -> Account:
    """Give the account that a uid belongs to now.

    Parameters
    ----------
    known : Account, optional
        The one that it belonged to when last looked at.
    name : str
        The name that the system's database has for the uid now.
    used : iterable of int
        Numbers of accounts of this uid of which something is put aside.

    Returns
    -------
    Account
        ``known`` itself as long as the name is the same.
    """
    if known is None:
        return Account(name, max(used, default=0) + 1)
    if known.name == name:
        return known
    return Account(name, max([known.number, *used]) + 1)


def account_number(unit: str) -> int:
    """Give the number of the account that a kernel's unit was made for."""
    found = _NUMBERED.search(unit)
    return int(found[1]) if found else 1


def unit_of_account(unit: str, number: int) -> str:
    """Name a unit of a later account of its uid; the first one's are as they are."""
    stem, dot, kind = unit.rpartition(".")
    return unit if number == 1 else f"{stem}:{number}{dot}{kind}"


def dump_account(account: Account) -> bytes:
    """Give what is kept in a file."""
    return json.dumps(asdict(account)).encode()


def parse_account(text: bytes, where: str) -> Account:
    """Read what is kept in a file.

    Raises
    ------
    StateFileError
        If it is something else.
    """
    try:
        found = json.loads(text)
        name, number = found["name"], found["number"]
    except (ValueError, TypeError, KeyError, RecursionError):
        name = number = None
    if not isinstance(name, str) or not name or not isinstance(number, int) or number < 1:
        raise StateFileError(
            f"reading {where}: it does not say which account this uid was",
            hint="remove the file if the uid still belongs to the same person",
        )
    return Account(name, number)
