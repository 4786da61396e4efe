"""``kconnd-ctl doctor``: checks this machine for problems, and prints a cure for each."""

from __future__ import annotations

import os
import resource
import shlex
import stat
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from kconnd.cli import render
from kconnd.cli.batch import client_for
from kconnd.cli.findings import Finding, Surroundings
from kconnd.cli.session_checks import (
    check_enclosure,
    check_home,
    check_inherited,
    check_tmp,
    check_writable,
)
from kconnd.client.unix_connection import DOCTOR_HINT
from kconnd.core.launch.kernel_files import MAX_SOCKET_PATH_BYTES, socket_prefix
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
    from kconnd.core.names import SpecNames

MIN_OPEN_FILES = 1024
FILES_PER_KERNEL = 8
MAX_NAME = "x" * 40  # the longest possible name of a kernel
HEALTH_LIMIT_S = 5.0  # the time limit for the daemon's answer
LEVEL_COLOURS = {"ok": "32", "warn": "33", "bad": "31"}
QT_BINDINGS = ("PySide6", "PyQt6", "PyQt5", "PySide2")


def doctor(arguments: Arguments) -> int:
    """Run all checks; the exit code is 1 if a finding is bad."""
    surroundings = _collect_surroundings(client_for(arguments))
    findings = [finding for check in CHECKS for finding in check(surroundings)]
    if arguments.json:
        render.print_json({"findings": [finding.to_json() for finding in findings]})
    else:
        _print_findings(findings)
    return 1 if any(finding.level == "bad" for finding in findings) else 0


def _collect_surroundings(client: Client) -> Surroundings:
    """Collect the folders of the daemon or, without a daemon, those that a new one would use."""
    user = own_user()
    runtime = resolve_folder(
        runtime_dir(os.environ, user.uid, lingers=lingers(user.name)), user.uid
    )
    state = state_dir(os.environ, user.home, machine_id())
    configs = [config_dir(os.environ, user.home)]
    health: Mapping[str, Any] | KconndError
    try:
        health = reply = client.get("/v1/health", limit=HEALTH_LIMIT_S)
        runtime, state, configs = (reply[key] for key in ("runtime_dir", "state_dir", "configs"))
    except KconndError as error:
        health = error
    folders = tuple(map(Path, configs))
    return Surroundings(health, Path(runtime), Path(state), folders, user.name, user.home)


def _print_findings(findings: list[Finding]) -> None:
    in_colour = render.use_colours(os.environ, is_terminal=sys.stdout.isatty())
    for finding in findings:
        label = f"{finding.level:4}"
        if in_colour:
            label = f"\033[{LEVEL_COLOURS[finding.level]}m{label}\033[0m"
        print(label, finding.message)
        if finding.cure:
            print(f"     → {finding.cure}")


def check_daemon(surroundings: Surroundings) -> Iterator[Finding]:
    """Check that a daemon answers and that its profiles have no faults."""
    health = surroundings.health
    if isinstance(health, KconndError):
        hint = health.hint.removesuffix(DOCTOR_HINT)
        yield Finding("warn", health.message, hint or "kconnd-ctl start NAME starts one")
        return
    daemon = f"daemon {health['version']}, pid {health['pid']}, on {health['socket']}"
    yield Finding("ok", f"{daemon}: {health['running']} of {health['kernels']} kernels run")
    if health["faults"]:
        yield Finding("bad", f"its profiles have {health['faults']} faults", "kconnd-ctl profiles")


def check_logout(surroundings: Surroundings) -> Iterator[Finding]:
    """Check that kernels survive a logout."""
    is_running = not isinstance(surroundings.health, KconndError)
    pid = surroundings.health["pid"] if is_running else "self"  # type: ignore[index]  # a mapping
    try:
        cgroup = Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8")
    except OSError:
        cgroup = ""
    user = surroundings.user
    cure = cure_for_logout(cgroup, kills=kills_user_processes(user), lingers=lingers(user))
    if cure:
        daemon = "the daemon" if is_running else "a daemon that is started here"
        yield Finding("bad", f"a logout terminates {daemon} and its kernels", cure)
    else:
        folder = surroundings.runtime
        yield Finding("ok", f"kernels survive a logout; their sockets are below {folder}")


def check_shared_memory(surroundings: Surroundings) -> Iterator[Finding]:
    """Check that the shared memory of kernels survives a logout."""
    cure = cure_for_shared_memory(
        os.getuid(), removes_ipc=removes_ipc(), lingers=lingers(surroundings.user)
    )
    if cure:
        message = (
            "a logout removes your kernels' shared memory (multiprocessing.shared_memory, "
            "/dev/shm, System V): logind's RemoveIPC=yes"
        )
        yield Finding("warn", message, cure)
    else:
        yield Finding("ok", "the shared memory of kernels survives a logout")


def check_folders(surroundings: Surroundings) -> Iterator[Finding]:
    """Check that only the user can enter the runtime and state folders."""
    for path in (surroundings.runtime, surroundings.state):
        try:
            status = path.lstat()
        except OSError:
            yield Finding("ok", f"{path} is created when it is needed")
            continue
        mode = stat.S_IMODE(status.st_mode) & 0o777
        is_private = status.st_uid == os.geteuid() and not mode & 0o077
        if is_private and stat.S_ISDIR(status.st_mode):
            yield Finding("ok", f"{path} is private")
        else:
            message = f"{path} is not private to you (uid {status.st_uid}, mode {mode:04o})"
            yield Finding("bad", message, f"chmod 700 {path}, or have it removed")


def check_path_length(surroundings: Surroundings) -> Iterator[Finding]:
    """Check that the paths of sockets fit into the limit of the operating system."""
    try:
        socket_prefix(str(surroundings.runtime), MAX_NAME)
    except UsageError as error:
        yield Finding("bad", error.message, error.hint)
    else:
        yield Finding("ok", f"the paths of sockets fit into {MAX_SOCKET_PATH_BYTES} bytes")


def check_profiles(surroundings: Surroundings) -> Iterator[Finding]:
    """Check that the profiles have no faults, and that a start of each would not fail now."""
    from kconnd.cli.check import facts_of, find_session, headline  # noqa: PLC0415  # for this check only
    from kconnd.system.profiles.review import review  # noqa: PLC0415  # imports pydantic

    health = surroundings.health
    folders = facts_of(None if isinstance(health, KconndError) else health)
    folders = replace(folders, own=[*map(str, surroundings.configs)])
    result = review(folders, (), find_session)
    shown = [path for path in [*folders.system, *folders.own] if path not in result.missing]
    number = len(result.loaded.profiles)
    plural = "" if number == 1 else "s"
    message = f"{number} profile{plural} in {', '.join(shown or folders.own)}"
    if count := len(result.loaded.faults):
        cure = " ".join(["kconnd-ctl check", *map(shlex.quote, shown)])
        yield Finding("bad", f"{message}, {count} fault{'' if count == 1 else 's'}", cure)
    else:
        yield Finding("ok", message)
    for warning in result.warnings:
        yield Finding("warn", headline(warning), warning.hint or "kconnd-ctl check shows the line")


def check_kernel_specs(surroundings: Surroundings) -> Iterator[Finding]:
    """Check that a kernel spec is installed, and that each one has a kernel name of its own."""
    from kconnd.core.names import name_specs  # noqa: PLC0415  # for this check only
    from kconnd.system.kernelspecs import installed_names  # noqa: PLC0415  # for this check only

    names = name_specs(installed_names())
    if names.specs:
        shown = [
            name if name == spec else f"{name} (derived from {spec!r})"
            for name, spec in sorted(names.specs.items())
        ]
        yield Finding("ok", f"kernel specs: {', '.join(shown)}")
    elif not names.clashes:
        yield Finding(
            "warn",
            "no Jupyter kernel spec is installed",
            "python -m pip install ipykernel; python -m ipykernel install --user",
        )
    yield from _find_clashes(surroundings, names)


def _find_clashes(surroundings: Surroundings, names: SpecNames) -> Iterator[Finding]:
    """Report the kernel specs whose derived names belong to profiles or to other kernel specs."""
    from kconnd.core.names import derived_name, jupyter_name, shown_spec  # noqa: PLC0415  # see above
    from kconnd.system.profiles.loader import load_profiles  # noqa: PLC0415  # imports pydantic

    profiles = load_profiles(surroundings.configs).profiles
    holders = {spec: f"the kernel spec {shown_spec(by)}" for spec, by in names.clashes.items()}
    for name, spec in names.specs.items():
        profile = profiles.get(name) if name != spec else None
        if profile and not jupyter_name(name, profile.profile.kernel):
            holders[spec] = f"the profile in {profile.file}"
    for spec, holder in sorted(holders.items()):
        message = f"the kernel spec {spec!r} has no kernel name: {holder} has {derived_name(spec)}"
        cure = f"write a profile with another name and the line: kernel: {spec!r}"
        yield Finding("warn", message, cure)


def check_consoles(_surroundings: Surroundings) -> Iterator[Finding]:
    """Check that the terminal console and the Qt console are installed."""
    install = f"{sys.executable} -m pip install"
    if find_spec("jupyter_console"):
        yield Finding("ok", "jupyter console is installed")
    else:
        message = "jupyter console is not installed, so kconnd-ctl console does not work"
        yield Finding("warn", message, f"{install} jupyter_console")
    bindings = [name for name in QT_BINDINGS if find_spec(name)]
    if find_spec("qtconsole") and bindings:
        yield Finding("ok", f"qtconsole is installed, with {bindings[0]}")
    else:
        missing = "a Qt binding" if find_spec("qtconsole") else "qtconsole"
        message = f"{missing} is not installed, so kconnd-ctl qtconsole does not work"
        yield Finding("warn", message, f"{install} qtconsole PySide6-Essentials")


def check_open_files(_surroundings: Surroundings) -> Iterator[Finding]:
    """Check that the limit of open files leaves room for many kernels."""
    _, hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard_limit != resource.RLIM_INFINITY and hard_limit < MIN_OPEN_FILES:
        kernels = hard_limit // FILES_PER_KERNEL
        message = f"only {hard_limit} open files are allowed: enough for {kernels} kernels"
        yield Finding("warn", message, "raise 'nofile' in /etc/security/limits.conf")
    else:
        yield Finding("ok", f"{hard_limit} open files are allowed")


def check_earlier_accounts(_surroundings: Surroundings) -> Iterator[Finding]:
    """Report each earlier account of this uid whose data the front door has put aside."""
    from kconnd.client import Client, has_front_door  # noqa: PLC0415  # for this check only
    from kconnd.core.paths import FRONT_SOCKET  # noqa: PLC0415  # for this check only

    if not has_front_door():
        return
    try:
        accounts = Client(FRONT_SOCKET).get("/v1/aside", limit=HEALTH_LIMIT_S)["aside"]
    except KconndError as error:
        yield Finding("warn", error.message, error.hint)
        return
    yield from map(describe_earlier_account, accounts)


def describe_earlier_account(account: Mapping[str, Any]) -> Finding:
    """Describe the data and processes of an earlier account, with instructions."""
    uid, units, pids = account["uid"], account["units"], account["pids"]
    message = (
        f"uid {uid} was another account, {account['name']}, until {account['at']}; kconnd set its "
        f"data aside in {account['folder']}"
    )
    cure = f"if {account['name']} was only renamed, run as root: kconnd-front --hand-over {uid}"
    if not pids:
        return Finding("ok", message, cure)
    message += f", and {len(pids)} of its processes still run with the rights of uid {uid}"
    stop = f"systemctl stop {' '.join(units)}; then " if units else ""
    # Some of the processes may belong to the new account: it may have used the uid before kconnd
    # detected the change.
    inspect = f"ps -o pid,lstart,args -p {','.join(map(str, pids))}"
    return Finding(
        "warn", message, f"{cure}; otherwise, as root: {stop}check whose they are: {inspect}"
    )


def check_runtime_folder(surroundings: Surroundings) -> Iterator[Finding]:
    """Report the runtime folders of this uid's earlier accounts; a daemon has put them aside."""
    from kconnd.system.files.runtime_owner import list_put_aside  # noqa: PLC0415  # this check only

    for folder in list_put_aside(surroundings.runtime):
        uid = os.geteuid()
        message = f"{folder} was the runtime folder of another account with uid {uid}"
        cure = f"its kernels may still run: ps -u {uid}; rm -r {folder} once none does"
        yield Finding("warn", message, cure)


CHECKS: tuple[Callable[[Surroundings], Iterator[Finding]], ...] = (
    check_daemon,
    check_tmp,
    check_home,
    check_logout,
    check_enclosure,
    check_inherited,
    check_shared_memory,
    check_folders,
    check_writable,
    check_path_length,
    check_profiles,
    check_kernel_specs,
    check_consoles,
    check_open_files,
    check_earlier_accounts,
    check_runtime_folder,
)
