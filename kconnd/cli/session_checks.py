"""Checks of ``kconnd-ctl doctor`` about the session that a daemon is started from."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from kconnd.cli.findings import Finding, Surroundings
from kconnd.client import has_front_door
from kconnd.core.inherited_limits import describe_inherited
from kconnd.core.job_cgroups import Enclosure, Kind, cure_for_enclosure, find_job_variable
from kconnd.core.unwritable_folder import cure_for
from kconnd.errors import KconndError
from kconnd.system.files.hidden_daemon import CURE, describe_hidden_daemon, find_hidden_daemon
from kconnd.system.files.unwritable import find_write_error
from kconnd.system.machine import account_home
from kconnd.system.process.session_limits import read_inherited
from kconnd.system.surrounding_unit import enclosure_of

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


def check_enclosure(surroundings: Surroundings) -> Iterator[Finding]:
    """Report the job, service or container with which the daemon and its kernels end."""
    pid = surroundings.daemon
    if pid is None and has_front_door():
        return  # the front door starts daemons outside of sessions
    subject = "a daemon that is started here ends" if pid is None else "the daemon ends"
    if enclosure := enclosure_of("self" if pid is None else pid):
        level = "warn" if enclosure.kind is Kind.CONTAINER else "bad"
        message = f"{subject} with {enclosure.name}, and so do its kernels"
        yield Finding(level, message, cure_for_enclosure(enclosure))
    elif pid is None and (job := find_job_variable(os.environ)):
        # A process outside of the job can have inherited its variables.
        message = f"{subject} with {job} if this session is a part of it, and so do its kernels"
        yield Finding("warn", message, cure_for_enclosure(Enclosure(Kind.JOB, job)))


def check_inherited(surroundings: Surroundings) -> Iterator[Finding]:
    """Report the restrictions that the daemon and its kernels inherit from a session."""
    pid = surroundings.daemon
    if pid is None and has_front_door():
        return
    subject = "kernels of a daemon that is started here" if pid is None else "kernels"
    try:
        inherited = read_inherited(os.getpid() if pid is None else pid)
    except OSError:
        return
    session = "this session" if pid is None else "the session that started the daemon"
    cure = f"they come from {session}: start the daemon from another one"
    if pid is not None:
        cure += f", after kill {pid}; kernels keep running, with their restrictions"
    for restriction in describe_inherited(inherited):
        yield Finding("warn", f"{subject} {restriction}", cure)


def check_tmp(surroundings: Surroundings) -> Iterator[Finding]:
    """Report a daemon that this session cannot reach because it has another /tmp."""
    if surroundings.daemon is None and (pid := find_hidden_daemon(surroundings.state)) is not None:
        yield Finding("bad", describe_hidden_daemon(pid), CURE.format(pid=pid))
