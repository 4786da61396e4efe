"""Checks of ``kconnd-ctl doctor`` about the session that a daemon is started from."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from kconnd.cli.findings import Finding, Surroundings
from kconnd.core.unwritable_folder import cure_for
from kconnd.errors import KconndError
from kconnd.system.files.unwritable import find_write_error
from kconnd.system.machine import account_home

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


def check_home(surroundings: Surroundings) -> Iterator[Finding]:
    """Check that the session, the daemon and the account have the same home folder."""
    home, named = surroundings.home, os.environ.get("HOME", "")
    account = account_home(os.geteuid())
    if named != home:
        yield Finding(
            "warn",
            f"HOME is {named!r}, which kconnd does not use: it uses {home}",
            f"set HOME to an absolute path of a folder of yours: export HOME={home}",
        )
    elif not Path(home).is_dir():
        cure = cure_for(home, errno.ENOENT, home, has_home=False)
        yield Finding("bad", f"the home folder {home} does not exist", cure)
    elif account and account != home:
        yield Finding("ok", f"the home folder is {home}, from HOME; the account has {account}")
    else:
        yield Finding("ok", f"the home folder is {home}")
    health = surroundings.health
    daemon_home = home if isinstance(health, KconndError) else health.get("home", home)
    if daemon_home != home:
        yield Finding(
            "warn",
            f"the daemon's home folder is {daemon_home}, and this session's is {home}: the "
            "profiles and kernel specs of this session are not used",
            f"start kernels from a session with HOME={daemon_home}; or, for a daemon with {home}, "
            f"stop the kernels, then the daemon: kill {surroundings.daemon}",
        )


def check_writable(surroundings: Surroundings) -> Iterator[Finding]:
    """Check that the runtime and state folders can be written to, or created."""
    for path in (surroundings.runtime, surroundings.state):
        number = find_write_error(path)
        if number:
            home = surroundings.home
            cure = cure_for(str(path), number, home, has_home=Path(home).is_dir())
            yield Finding("bad", f"{path} cannot be written to: {os.strerror(number)}", cure)
