"""Which account each uid belonged to, and what is put aside of earlier accounts: root's files.

``/var/lib/kconnd/owners/UID`` names the account that what is kept for a uid belongs to. The
owner's daemon may read it, and only root can write it.

What an earlier account left is moved, never removed: its state to
``/var/lib/kconnd/aside/UID-NUMBER/state``, with ``about.json`` beside it, and its sockets and
connection files to ``/run/kconnd/aside/UID-NUMBER``. Both folders are closed to everybody but
root, so the new account cannot enter what its own uid owns. Kernels that live go on writing their
logs there, since a file that is moved stays open. Nothing here follows a path that a user made:
each step renames an entry of a folder of root's.
"""

import contextlib
import errno
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from kconnd.core.account_history import Account, current_account, parse_account, to_json
from kconnd.core.kernel.view import iso
from kconnd.core.paths import RUN, STATE
from kconnd.errors import KconndError, NoSuchKernelError, StateFileError
from kconnd.system.files.private import write_private

ABOUT = "about.json"


@dataclass(frozen=True)
class Aside:
    """What was put aside of one account.

    Parameters
    ----------
    uid : int
        Whose it was.
    name, number : str and int
        As in `Account`.
    at : str
        When, by ISO 8601.
    """

    uid: int
    name: str
    number: int
    at: str


class AccountFiles:
    """Reads and writes them.

    Parameters
    ----------
    state, run : Path
        Where the service keeps what outlives a reboot, and what does not.
    """

    def __init__(self, state: Path = Path(STATE), run: Path = Path(RUN)) -> None:
        self.state, self.run = state, run
        self._owners = state / "owners"
        self.aside = state / "aside"

    def make_folders(self) -> None:
        """Make the folders below the state folder that are not there yet."""
        for folder, mode in ((self._owners, 0o755), (self.aside, 0o700)):
            folder.mkdir(exist_ok=True)
            if folder.stat().st_mode & 0o777 != mode:  # on a read-only disk it fails
                folder.chmod(mode)

    def uids(self) -> list[int]:
        """List the uids whose account is known, or for which something is kept."""
        folders = [self._owners, self.state / "u", self.run / "u"]
        names = (file.name for folder in folders if folder.is_dir() for file in folder.iterdir())
        return sorted({int(name) for name in names if _is_number(name)})

    def read(self, uid: int) -> Account | None:
        """Give the account that a uid belonged to; None where nothing was kept for it.

        Raises
        ------
        StateFileError
            If that cannot be read.
        """
        file = self._owners / str(uid)
        try:
            return parse_account(file.read_bytes(), str(file))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StateFileError(f"reading {file}: {error.strerror}") from error

    def write(self, uid: int, account: Account) -> None:
        """Remember the account that a uid belongs to."""
        file = self._owners / str(uid)
        new = file.with_suffix(".new")
        write_private(new, to_json(account), durable=True)
        new.chmod(0o644)
        new.rename(file)

    def used_numbers(self, uid: int) -> list[int]:
        """List the numbers of accounts of a uid of which something is put aside."""
        return [aside.number for aside in self.list_aside() if aside.uid == uid]

    def list_aside(self) -> list[Aside]:
        """List what is put aside, of all uids."""
        return sorted(self._asides(), key=lambda aside: (aside.uid, aside.number))

    def _asides(self) -> Iterator[Aside]:
        for file in self.aside.glob(f"*/{ABOUT}"):
            try:
                yield Aside(**json.loads(file.read_bytes()))
            except (OSError, ValueError, TypeError):
                continue  # an administrator is at work there

    def place_of(self, aside: Aside) -> Path:
        """Give the folder that has what was put aside."""
        return self.aside / f"{aside.uid}-{aside.number}"

    def put_aside(self, uid: int, now: float) -> Aside | None:
        """Move what is kept for a uid out of the way, and forget that it starts at boot.

        Nothing of it may run but kernels: the uid's daemon has to be stopped. Where this was cut
        short it can be done again. None where the uid's account is not known.
        """
        account = self.read(uid)
        if account is None:
            return None
        aside = Aside(uid, account.name, account.number, iso(now) or "")
        place = self.place_of(aside)
        place.mkdir(mode=0o700, exist_ok=True)
        write_private(place / ABOUT, json.dumps(asdict(aside)).encode(), durable=True)
        _move(self.state / "u" / str(uid), place / "state")
        (self.run / "aside").mkdir(mode=0o700, exist_ok=True)
        _move(self.run / "u" / str(uid), self.run / "aside" / place.name)
        (self.state / "boot" / str(uid)).unlink(missing_ok=True)
        return aside

    def hand_over(self, uid: int, name: str, now: float) -> Aside:
        """Give a uid back what was put aside last, in exchange for what it has now.

        Raises
        ------
        NoSuchKernelError
            If nothing of that uid is put aside.
        KconndError
            If its daemon has begun anew meanwhile: what was to be given back stays put aside, and
            it can be asked again.
        """
        known = self.read(uid)
        earlier = [aside for aside in self.list_aside() if aside.uid == uid]
        if known is None or not earlier:
            raise NoSuchKernelError(
                f"handing over what is put aside of uid {uid}: there is nothing",
                hint=f"{self.aside} has what is put aside",
            )
        # What is put aside with its present number is of a hand-over that failed.
        last = ([aside for aside in earlier if aside.number != known.number] or earlier)[-1]
        self.put_aside(uid, now)
        self._give_back(uid, self.place_of(last))
        self.write(uid, Account(name, last.number))
        return last

    def _give_back(self, uid: int, place: Path) -> None:
        """Move what is put aside to its own names and no others: all of it, or nothing."""
        run = self.run / "aside" / place.name
        moves = [(place / "state", self.state / "u" / str(uid)), (run, self.run / "u" / str(uid))]
        done: list[tuple[Path, Path]] = []
        try:
            for old, new in moves:
                if os.path.lexists(new):
                    raise FileExistsError(errno.EEXIST, "it is there again", str(new))
                if os.path.lexists(old):
                    old.rename(new)
                    done.append((old, new))
        except OSError as error:
            for old, new in reversed(done):
                new.rename(old)
            raise KconndError(
                f"giving back to uid {uid} what is in {place}: {new}: {error.strerror}",
                hint="end what asks that user's daemon, which starts it, and ask again: nothing "
                "is lost, and what the daemon has made since is put aside as well",
            ) from error
        if [*place.iterdir()] == [place / ABOUT]:  # else there is more of it, to be told of
            (place / ABOUT).unlink()
            with contextlib.suppress(OSError):
                place.rmdir()

    def follow(self, uid: int, name: str) -> Account:
        """Give the account that a uid belongs to by now, by the name it has."""
        known = self.read(uid)
        if known is not None and known.name == name:
            return known
        return current_account(known, name, self.used_numbers(uid))


def check_account(uid: int, name: str, files: AccountFiles) -> None:
    """Refuse to use what is kept for a uid where that belongs to another account.

    Raises
    ------
    KconndError
        If so; the front door puts it aside.
    """
    known = files.read(uid)
    if known is not None and known.name != name:
        raise KconndError(
            f"what is kept for uid {uid} belongs to the account {known.name}, not to {name}",
            hint="ask an administrator to run: systemctl restart kconnd",
        )


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal()


def _move(old: Path, new: Path) -> None:
    """Move a folder of root's tree, to a name that is free; do nothing where it is not there."""
    if not os.path.lexists(old):
        return
    for count in range(2, 1000):
        if not os.path.lexists(new):
            break
        new = new.with_suffix(f".{count}")
    old.rename(new)
