"""``kconnd-ctl doctor``: what on this machine will bite, before it does, each with its cure."""

from __future__ import annotations

import os
import resource
import shlex
import stat
import sys
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

from kconnd.cli import render
from kconnd.cli.batch import client_for
from kconnd.core.launch.kernel_files import IPC_LIMIT, socket_prefix
from kconnd.core.logout import cure_for_logout, cure_for_shared_memory
from kconnd.core.paths import config_dir, runtime_dir, state_dir
from kconnd.errors import KconndError, UsageError
from kconnd.private_tmp import resolve_folder
from kconnd.system.machine import kills_user_processes, lingers, machine_id, own_user
from kconnd.system.systemd.logind import removes_ipc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

    from kconnd.cli.command_line import Arguments
    from kconnd.client import Client

ENOUGH_FILES = 1024
PATIENCE = 5.0  # seconds for the daemon to answer
MARKS = {"ok": "32", "warn": "33", "bad": "31"}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Parameters
    ----------
    level : str
        ``ok``, ``warn`` (will bite some day) or ``bad`` (does bite).
    what : str
        What was found.
    cure : str
        What to do; ``""`` where all is well.
    """

    level: str
    what: str
    cure: str = ""


@dataclass(frozen=True)
class Surroundings:
    """What the checks look at."""

    health: Mapping[str, Any] | KconndError  # the daemon's, or why there is none
    runtime: Path
    state: Path
    configs: tuple[Path, ...]
    user: str


def doctor(arguments: Arguments) -> int:
    """Look at everything that kconnd needs of its machine."""
    around = _look_around(client_for(arguments))
    findings = [finding for check in CHECKS for finding in check(around)]
    if arguments.json:
        render.print_json({"findings": [asdict(finding) for finding in findings]})
    else:
        _print(findings)
    return 1 if any(finding.level == "bad" for finding in findings) else 0


def _look_around(client: Client) -> Surroundings:
    """Find out which folders count: the daemon's, or those that one would take."""
    user = own_user()
    runtime = resolve_folder(
        runtime_dir(os.environ, user.uid, lingers=lingers(user.name)), user.uid
    )
    state = state_dir(os.environ, user.home, machine_id())
    configs = [config_dir(os.environ, user.home)]
    health: Mapping[str, Any] | KconndError
    try:
        health = told = client.get("/v1/health", limit=PATIENCE)
        runtime, state, configs = (told[key] for key in ("runtime_dir", "state_dir", "configs"))
    except KconndError as error:
        health = error
    return Surroundings(health, Path(runtime), Path(state), tuple(map(Path, configs)), user.name)


def _print(findings: list[Finding]) -> None:
    colour = render.colours_wanted(os.environ, terminal=sys.stdout.isatty())
    for finding in findings:
        mark = f"{finding.level:4}"
        print(f"\033[{MARKS[finding.level]}m{mark}\033[0m" if colour else mark, finding.what)
        if finding.cure:
            print(f"     → {finding.cure}")


def _daemon(around: Surroundings) -> Iterator[Finding]:
    health = around.health
    if isinstance(health, KconndError):
        yield Finding("warn", health.message, health.hint or "kconnd-ctl start NAME starts one")
        return
    about = f"daemon {health['version']}, pid {health['pid']}, on {health['socket']}"
    yield Finding("ok", f"{about}: {health['running']} of {health['kernels']} kernels run")
    if health["faults"]:
        yield Finding("bad", f"its profiles have {health['faults']} faults", "kconnd-ctl profiles")


def _logout(around: Surroundings) -> Iterator[Finding]:
    pid = "self" if isinstance(around.health, KconndError) else around.health["pid"]
    try:
        cgroup = Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8")
    except OSError:
        cgroup = ""
    cure = cure_for_logout(
        cgroup, kills=kills_user_processes(around.user), lingers=lingers(around.user)
    )
    if cure:
        who = "a daemon that is started here" if pid == "self" else "the daemon"
        yield Finding("bad", f"a logout ends {who}, and its kernels", cure)
    else:
        yield Finding("ok", f"kernels outlive a logout; their sockets are below {around.runtime}")


def _shared_memory(around: Surroundings) -> Iterator[Finding]:
    cure = cure_for_shared_memory(
        os.getuid(), removes_ipc=removes_ipc(), lingers=lingers(around.user)
    )
    if cure:
        what = (
            "a logout removes your kernels' shared memory (multiprocessing.shared_memory, "
            "/dev/shm, System V): logind's RemoveIPC=yes"
        )
        yield Finding("warn", what, cure)
    else:
        yield Finding("ok", "shared memory of kernels outlives a logout")


def _folders(around: Surroundings) -> Iterator[Finding]:
    for path in (around.runtime, around.state):
        try:
            found = path.lstat()
        except OSError:
            yield Finding("ok", f"{path} is made when it is needed")
            continue
        mode = stat.S_IMODE(found.st_mode) & 0o777
        if found.st_uid != os.geteuid() or mode & 0o077 or not stat.S_ISDIR(found.st_mode):
            what = f"{path} is not yours alone (uid {found.st_uid}, mode {mode:04o})"
            yield Finding("bad", what, f"chmod 700 {path}, or have it removed")
        else:
            yield Finding("ok", f"{path} is yours alone")


def _path_length(around: Surroundings) -> Iterator[Finding]:
    try:
        socket_prefix(str(around.runtime), "x" * 40)
    except UsageError as error:
        yield Finding("bad", error.message, error.hint)
    else:
        yield Finding("ok", f"paths of sockets fit into {IPC_LIMIT} bytes")


def _profiles(around: Surroundings) -> Iterator[Finding]:
    from kconnd.system.profiles.loader import load_profiles  # noqa: PLC0415  # it brings pydantic

    loaded = load_profiles(around.configs)
    what = f"{len(loaded.profiles)} profiles in {', '.join(map(str, around.configs))}"
    if count := len(loaded.faults):
        cure = " ".join(["kconnd-ctl check", *map(shlex.quote, map(str, around.configs))])
        yield Finding("bad", f"{what}, {count} fault{'' if count == 1 else 's'}", cure)
    else:
        yield Finding("ok", what)


def _kernel_specs(_around: Surroundings) -> Iterator[Finding]:
    from kconnd.system.kernelspecs import installed_names  # noqa: PLC0415  # it looks at disks

    names = sorted(installed_names())
    if names:
        yield Finding("ok", f"kernel specs: {', '.join(names)}")
    else:
        yield Finding(
            "warn",
            "no Jupyter kernel spec is installed",
            "python -m pip install ipykernel; python -m ipykernel install --user",
        )


def _clients(_around: Surroundings) -> Iterator[Finding]:
    python = f"{sys.executable} -m pip install"
    if find_spec("jupyter_console"):
        yield Finding("ok", "jupyter console is installed")
    else:
        cure = f"{python} jupyter_console"
        yield Finding("warn", "no jupyter console: kconnd-ctl console will not work", cure)
    bindings = [name for name in ("PySide6", "PyQt6", "PyQt5", "PySide2") if find_spec(name)]
    if find_spec("qtconsole") and bindings:
        yield Finding("ok", f"qtconsole is installed, with {bindings[0]}")
    else:
        missing = "qtconsole" if not find_spec("qtconsole") else "a Qt binding"
        yield Finding(
            "warn", f"no {missing}: no Qt console", f"{python} qtconsole PySide6-Essentials"
        )


def _files(_around: Surroundings) -> Iterator[Finding]:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < ENOUGH_FILES:
        cure = "raise 'nofile' in /etc/security/limits.conf"
        yield Finding("warn", f"only {hard} open files: enough for {hard // 8} kernels", cure)
    else:
        yield Finding("ok", f"{hard} open files are allowed")


def _earlier_accounts(_around: Surroundings) -> Iterator[Finding]:
    """Tell what the front door has put aside of earlier accounts of a uid."""
    from kconnd.client import Client, has_front_door  # noqa: PLC0415  # as few modules as may be
    from kconnd.core.paths import FRONT_SOCKET  # noqa: PLC0415  # as above

    if not has_front_door():
        return
    try:
        asides = Client(FRONT_SOCKET).get("/v1/aside", limit=PATIENCE)["aside"]
    except KconndError as error:
        yield Finding("warn", error.message, error.hint)
        return
    for aside in asides:
        yield _earlier_account(aside)


def _runtime_put_aside(around: Surroundings) -> Iterator[Finding]:
    """Tell of folders of an earlier account, where there is no front door."""
    from kconnd.system.files.runtime_owner import list_put_aside  # noqa: PLC0415  # as above

    for folder in list_put_aside(around.runtime):
        what = f"{folder} was the runtime folder of another account with uid {os.geteuid()}"
        cure = f"its kernels may run on: ps -u {os.geteuid()}; rm -r {folder} once none does"
        yield Finding("warn", what, cure)


def _earlier_account(aside: Mapping[str, Any]) -> Finding:
    uid, units, pids = aside["uid"], aside["units"], aside["pids"]
    what = f"uid {uid} was another account, {aside['name']}, until {aside['at']}; what kconnd kept"
    what = f"{what} for it is put aside in {aside['folder']}"
    cure = f"where {aside['name']} was only renamed, as root: kconnd-front --hand-over {uid}"
    if not pids:
        return Finding("ok", what, cure)
    what = (
        f"{what}, and {len(pids)} processes that began before run on with the rights of uid {uid}"
    )
    end = f"systemctl stop {' '.join(units)}; then " if units else ""
    # The uid may have gone to the new account before that was noticed, so some may be its own.
    look = f"ps -o pid,lstart,args -p {','.join(map(str, pids))}"
    return Finding("warn", what, f"{cure}; else, as root: {end}look at whose they are: {look}")


CHECKS: tuple[Callable[[Surroundings], Iterator[Finding]], ...] = (
    _daemon,
    _logout,
    _shared_memory,
    _folders,
    _path_length,
    _profiles,
    _kernel_specs,
    _clients,
    _files,
    _earlier_accounts,
    _runtime_put_aside,
)
