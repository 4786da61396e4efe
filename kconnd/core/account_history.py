"""Detects that a uid was reassigned to another account.

On a server, kconnd names a user's files and units by uid. After an account is deleted, the system
can assign its uid to a new account. kconnd therefore stores the login name of each uid. If the
login name changes, kconnd assumes that the uid belongs to a new account: it puts the files of the
earlier account aside, and the new account starts without files. kconnd cannot distinguish a renamed
account from a new one. For a renamed account, an administrator restores the files with
``kconnd-front --hand-over UID``.

The accounts of one uid are numbered from 1. A kernel of an account with a number above 1 runs in a
systemd unit whose name contains this number. The name therefore differs from the names of units in
which kernels of an earlier account may still run.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from kconnd.errors import StateFileError

NO_UIDS = frozenset({(1 << 16) - 1, (1 << 32) - 1})  # -1 in 16 and in 32 bits means "no user"
ROOT_UID = 0
_NUMBERED = re.compile(r":([1-9][0-9]{0,8})\.(service|scope)$", re.ASCII)


@dataclass(frozen=True)
class Account:
    """The account that a uid belongs to.

    Parameters
    ----------
    name : str
        The login name.
    number : int
        The position of the account among the accounts of its uid; the first is 1.
    """

    name: str
    number: int = 1


@dataclass(frozen=True)
class RuntimeOwner:
    """The account that owns a runtime folder on a machine without the front door.

    Parameters
    ----------
    name : str
        The login name.
    device, inode : int
        The device and inode of the state folder, which is in the account's home.
    """

    name: str
    device: int
    inode: int

    def is_same(self, other: "RuntimeOwner") -> bool:
        """Return whether two owners are the same account.

        Two owners with the same name or the same state folder are the same account.
        """
        same_folder = (self.device, self.inode) == (other.device, other.inode)
        return same_folder or self.name == other.name

    def as_dict(self) -> dict[str, object]:
        """Convert the owner to plain data for a file."""
        return asdict(self)


def parse_runtime_owner(text: bytes) -> RuntimeOwner:
    """Parse the content of an owner file: a `RuntimeOwner` as JSON.

    Raises
    ------
    ValueError
        If the content is malformed.
    """
    try:
        content = json.loads(text)
        name, device, inode = content["name"], content["device"], content["inode"]
    except (TypeError, KeyError, RecursionError):
        raise ValueError("no owner") from None
    if not isinstance(name, str) or not isinstance(device, int) or not isinstance(inode, int):
        raise ValueError("no owner")  # noqa: TRY004  # one error for all damage
    return RuntimeOwner(name, device, inode)


def is_usable_uid(uid: int) -> bool:
    """Return whether a process can run as a uid; a uid in `NO_UIDS` means "no user"."""
    return 0 <= uid < 1 << 32 and uid not in NO_UIDS


def current_account(previous: Account | None, name: str, used: Iterable[int] = ()) -> Account:
    """Return the account that a uid belongs to now.

    Parameters
    ----------
    previous : Account, optional
        The account that the uid belonged to at the last check.
    name : str
        The uid's present login name in the system's user database.
    used : iterable of int
        The numbers of those earlier accounts of the uid whose files were put aside.

    Returns
    -------
    Account
        ``previous`` itself if the name is unchanged, else a new account with the next number.
    """
    if previous is None:
        return Account(name, max(used, default=0) + 1)
    if previous.name == name:
        return previous
    return Account(name, max([previous.number, *used]) + 1)


def account_number(unit: str) -> int:
    """Return the number of the account that a kernel's unit belongs to."""
    match = _NUMBERED.search(unit)
    return int(match[1]) if match else 1


def unit_of_account(unit: str, number: int) -> str:
    """Add an account's number to the name of a unit; number 1 leaves the name as it is."""
    stem, dot, kind = unit.rpartition(".")
    return unit if number == 1 else f"{stem}:{number}{dot}{kind}"


def dump_account(account: Account) -> bytes:
    """Serialize an account for its file."""
    return json.dumps(asdict(account)).encode()


def parse_account(text: bytes, where: str) -> Account:
    """Parse the content of an account file, which `dump_account` builds.

    Raises
    ------
    StateFileError
        If the content is malformed; the error names ``where``, the path of the file.
    """
    try:
        content = json.loads(text)
        name, number = content["name"], content["number"]
    except (ValueError, TypeError, KeyError, RecursionError):
        name = number = None
    if not isinstance(name, str) or not name or not isinstance(number, int) or number < 1:
        raise StateFileError(
            f"reading {where}: it does not name the account of this uid",
            hint="remove the file if the uid still belongs to the same person",
        )
    return Account(name, number)
