"""Root's files about accounts: the owner of each uid's state, and the state of earlier accounts.

``/var/lib/kconnd/owners/UID`` names the account that owns the state of a uid. The owner's daemon
can read the file, and only root can write it.

When a uid is reassigned, the state of the earlier account is put aside: it is moved and never
removed. The state folder is moved to ``/var/lib/kconnd/aside/UID-NUMBER/state``, with a description
in ``about.json`` beside it. NUMBER counts the accounts of this uid, from 1. The sockets and
connection files are moved to ``/run/kconnd/aside/UID-NUMBER``. Only root can enter these folders,
because the uid still owns the files, and the new account with this uid must not read them. Live
kernels keep writing to their logs, because a moved file stays open. No operation follows a path
that a user created; each operation renames an entry of a folder that root owns.
"""

import contextlib
import errno
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from kconnd.core.account_history import Account, current_account, dump_account, parse_account
from kconnd.core.kernel.view import iso_time
from kconnd.core.paths import RUN_DIR, STATE_DIR
from kconnd.errors import KconndError, NoSuchKernelError, StateFileError
from kconnd.system.files.private import write_private

ABOUT = "about.json"
MAX_DUPLICATES = 1000


@dataclass(frozen=True)
class Aside:
    """A description of the state that was put aside for an earlier account.

    Parameters
    ----------
    uid : int
        The uid of the account.
    name, number : str and int
        The account's login name, and its number as in `Account`.
    at : str
        The time at which the state was put aside, as ISO 8601.
    """

    uid: int
    name: str
    number: int
    at: str


class AccountFiles:
    """Reads and writes the files about accounts.

    Parameters
    ----------
    state, run : Path
        The service's folders: ``state`` survives a reboot, ``run`` does not.
    """

    def __init__(self, state: Path = Path(STATE_DIR), run: Path = Path(RUN_DIR)) -> None:
        self.state, self.run = state, run
        self._owners = state / "owners"
        self.aside = state / "aside"

    def make_folders(self) -> None:
        """Create the missing folders below the state folder."""
        for folder, mode in ((self._owners, 0o755), (self.aside, 0o700)):
            folder.mkdir(exist_ok=True)
            if folder.stat().st_mode & 0o777 != mode:  # chmod fails on a read-only disk
                folder.chmod(mode)

    def uids(self) -> list[int]:
        """Return the uids that have a recorded account, a state folder or a runtime folder."""
        folders = [self._owners, self.state / "u", self.run / "u"]
        names = (file.name for folder in folders if folder.is_dir() for file in folder.iterdir())
        return sorted({int(name) for name in names if _is_number(name)})

    def read(self, uid: int) -> Account | None:
        """Read the account that owns the state of a uid; None if no account is recorded.

        Raises
        ------
        StateFileError
            If the file cannot be read.
        """
        file = self._owners / str(uid)
        try:
            return parse_account(file.read_bytes(), str(file))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StateFileError(f"reading {file}: {error.strerror}") from error

    def write(self, uid: int, account: Account) -> None:
        """Record the account that owns the state of a uid."""
        file = self._owners / str(uid)
        new = file.with_suffix(".new")
        write_private(new, dump_account(account), durable=True)
        new.chmod(0o644)
        new.rename(file)

    def used_numbers(self, uid: int) -> list[int]:
        """List the numbers of a uid's accounts whose state is put aside."""
        return [aside.number for aside in self.list_aside() if aside.uid == uid]

    def list_aside(self) -> list[Aside]:
        """List the descriptions of all state that is put aside, for all uids."""
        return sorted(self._read_all_aside(), key=lambda aside: (aside.uid, aside.number))

    def _read_all_aside(self) -> Iterator[Aside]:
        for file in self.aside.glob(f"*/{ABOUT}"):
            try:
                yield Aside(**json.loads(file.read_bytes()))
            except (OSError, ValueError, TypeError):
                # The file is invalid, for example while an administrator edits it.
                continue

    def place_of(self, aside: Aside) -> Path:
        """Return the folder ``aside/UID-NUMBER`` with the state of an earlier account."""
        return self.aside / f"{aside.uid}-{aside.number}"

    def put_aside(self, uid: int, now: float) -> Aside | None:
        """Put the state of a uid aside, and no longer start the uid's daemon at boot.

        The uid's daemon must not run during the call; kernels may run. An interrupted call can be
        repeated.

        Returns
        -------
        Aside, optional
            The description of the state; None if no account is recorded for the uid.
        """
        account = self.read(uid)
        if account is None:
            return None
        aside = Aside(uid, account.name, account.number, iso_time(now) or "")
        folder = self.place_of(aside)
        folder.mkdir(mode=0o700, exist_ok=True)
        write_private(folder / ABOUT, json.dumps(asdict(aside)).encode(), durable=True)
        _move(self.state / "u" / str(uid), folder / "state")
        (self.run / "aside").mkdir(mode=0o700, exist_ok=True)
        _move(self.run / "u" / str(uid), self.run / "aside" / folder.name)
        (self.state / "boot" / str(uid)).unlink(missing_ok=True)
        return aside

    def hand_over(self, uid: int, name: str, now: float) -> Aside:
        """Put the present state of a uid aside, and restore the state of an earlier account.

        The earlier account has the highest number among the uid's other accounts whose state is put
        aside. The login name of the earlier account becomes ``name``.

        Raises
        ------
        NoSuchKernelError
            If no state of the uid is put aside.
        KconndError
            If the uid's daemon has created new state during the call. In this case, the earlier
            state is not moved, and the call can be repeated.
        """
        account = self.read(uid)
        earlier = [aside for aside in self.list_aside() if aside.uid == uid]
        if account is None or not earlier:
            raise NoSuchKernelError(
                f"handing over the state that is put aside for uid {uid}: there is none",
                hint=f"the folder {self.aside} contains all state that is put aside",
            )
        # State with the account's present number was put aside by an earlier call that failed.
        last = ([aside for aside in earlier if aside.number != account.number] or earlier)[-1]
        self.put_aside(uid, now)
        self._restore(uid, self.place_of(last))
        self.write(uid, Account(name, last.number))
        return last

    def _restore(self, uid: int, place: Path) -> None:
        """Move all state of an earlier account back to the original paths, or move nothing.

        ``place`` is the folder of the state, as `place_of` returns it.
        """
        run = self.run / "aside" / place.name
        moves = [(place / "state", self.state / "u" / str(uid)), (run, self.run / "u" / str(uid))]
        done: list[tuple[Path, Path]] = []
        try:
            for old, new in moves:
                if os.path.lexists(new):
                    raise FileExistsError(errno.EEXIST, "it exists again", str(new))
                if os.path.lexists(old):
                    old.rename(new)
                    done.append((old, new))
        except OSError as error:
            for old, new in reversed(done):
                new.rename(old)
            raise KconndError(
                f"restoring the state in {place} to uid {uid}: {new}: {error.strerror}",
                hint="stop the programs that contact that user's daemon, which start it, and "
                "repeat the command: nothing is lost, and new state of the daemon is put aside",
            ) from error
        # If the folder has further entries, an administrator created them. In this case, the folder
        # and its description are kept.
        if [*place.iterdir()] == [place / ABOUT]:
            (place / ABOUT).unlink()
            with contextlib.suppress(OSError):
                place.rmdir()

    def current(self, uid: int, name: str) -> Account:
        """Return a uid's recorded account if the login name is unchanged, else a new account."""
        account = self.read(uid)
        if account is not None and account.name == name:
            return account
        return current_account(account, name, self.used_numbers(uid))


def check_account(uid: int, name: str, files: AccountFiles) -> None:
    """Refuse to use the state of a uid if an earlier account with this uid created the state.

    Raises
    ------
    KconndError
        If the state belongs to an earlier account. The front door puts such state aside when the
        front door starts.
    """
    account = files.read(uid)
    if account is not None and account.name != name:
        raise KconndError(
            f"the state of uid {uid} belongs to the account {account.name}, not to {name}",
            hint="ask an administrator to run: systemctl restart kconnd",
        )


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal()


def _move(old: Path, new: Path) -> None:
    """Move ``old``, if it exists, to ``new``, or to a similar name if ``new`` exists already."""
    if not os.path.lexists(old):
        return
    for count in range(2, MAX_DUPLICATES):
        if not os.path.lexists(new):
            break
        new = new.with_suffix(f".{count}")
    old.rename(new)
