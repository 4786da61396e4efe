"""``kconnd-ctl list``: a table of kernels."""

from __future__ import annotations

import os
import sys
import time

from kconnd.cli import render
from kconnd.cli.batch import client_for, expand_patterns, outcomes_of
from kconnd.client import Client, has_front_door, owner_client
from kconnd.errors import KconndError, NoSuchKernelError, RefusedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from kconnd.cli.command_line import Arguments

STARTABLE = "startable"  # in the column STATE, of a kernel spec without a kernel
COLUMNS = ("NAME", "STATE", "PID", "MEMORY", "IDLE", "UP", "RESTARTS", "NOTE")
SHARED_LIMIT_S = 2.0  # for the reply of an owner whom the machine's profiles name
# Any user can be such an owner, and none of them is to disturb the list of all other users.
SHARING_LIMIT_S = 1.0  # for the reply of an owner who shares kernels by profiles of their own
MAX_SHARING_ROWS = 50  # kernels of such an owner
NUMERIC_COLUMNS = frozenset({2, 3, 4, 5, 6})


def list_kernels(arguments: Arguments) -> int:
    """List all kernels, or the kernels that match the names."""
    reply = _kernels_of_all_users() if arguments.all_users else _own_kernels(arguments)
    if arguments.names:
        selected = _selected_names(reply, arguments)
        for key in ("kernels", "startable") if arguments.all else ("kernels",):
            reply[key] = [row for row in reply.get(key, ()) if _is_selected(row, selected)]
        reply["elsewhere"] = reply["shared"] = []
    elif not arguments.all_users:
        _add_shared_kernels(reply)
    for error in reply.get("errors", []):
        print(render.plain(f"kconnd-ctl: {error['message']}"), file=sys.stderr)
    if arguments.json:
        render.print_json(reply)
    else:
        elsewhere = reply.get("elsewhere", [])
        kernels = [*reply["kernels"], *reply.get("shared", [])]
        startable = reply.get("startable", [])
        _print_kernels(*map(render.printable, (kernels, elsewhere, startable)))
    if not arguments.names:
        _report_faults(reply.get("faulty_profiles", 0))
    return 0


def _own_kernels(arguments: Arguments) -> dict[str, Any]:
    query = "?startable=1" if arguments.all else ""
    reply: dict[str, Any] = client_for(arguments).get(f"/v1/kernels{query}")
    if arguments.all and "startable" not in reply:
        message = "this daemon is of an earlier version, which does not list kernel specs"
        print(f"kconnd-ctl: {message}; restart it: kernels keep running", file=sys.stderr)
    return reply


def _selected_names(reply: dict[str, Any], arguments: Arguments) -> set[str]:
    """Return the names that the command line selects."""
    if not arguments.all:
        return set(expand_patterns(client_for(arguments), arguments.names))
    from fnmatch import fnmatchcase  # noqa: PLC0415  # for --all with names only

    rows = [row for key in ("kernels", "startable") for row in reply.get(key, ())]
    specs = {word.lower() for word in arguments.names}
    selected = {
        row["name"]
        for row in rows
        if any(fnmatchcase(row["name"], word) for word in arguments.names)
        or row.get("jupyter_name") in specs
    }
    if not selected:
        raise NoSuchKernelError(
            f"no kernel and no kernel spec matches {' '.join(arguments.names)!r}",
            hint="kconnd-ctl list --all shows all of them",
        )
    return selected


def _is_selected(row: dict[str, Any], names: set[str]) -> bool:
    """Return whether names select a row; a name can be Jupyter's name of a kernel spec."""
    spec = row.get("jupyter_name")
    return row["name"] in names or (bool(spec) and spec in {name.lower() for name in names})


def _report_faults(count: int) -> None:
    """Say on stderr that profiles have faults, so that stdout is the table alone."""
    if count:
        sys.stdout.flush()
        subject = "1 profile has" if count == 1 else f"{count} profiles have"
        print(f"kconnd-ctl: {subject} faults: kconnd-ctl check shows them", file=sys.stderr)


def _add_shared_kernels(reply: dict[str, Any]) -> None:
    """Replace the names of shared kernels by descriptions from their owners' daemons.

    The names are those of the machine's profiles. Kernels that owners share by profiles of their
    own are added.
    """
    names_of: dict[str, set[str]] = {}
    for kernel in reply.get("shared", ()):
        names_of.setdefault(kernel["owner"], set()).add(kernel["name"])
    sharing = _sharing_owners()

    def visible_kernels(owner: str) -> Any:
        limit_s = SHARED_LIMIT_S if owner in names_of else SHARING_LIMIT_S
        return owner_client(owner).get("/v1/kernels", limit=limit_s)["kernels"]

    owners = [*dict.fromkeys([*names_of, *sorted(sharing)])]
    if not owners:
        return
    reply["shared"], reply["errors"] = [], []
    for owner, outcome in outcomes_of(owners, visible_kernels):
        names = names_of.get(owner, set())
        if isinstance(outcome, Exception):
            if error := _describe_failure(owner, outcome, by_machine=bool(names)):
                reply["errors"].append({"message": f"listing the kernels of {owner}: {error}"})
            continue
        rows = select_shared(outcome, names, all_others=owner in sharing)
        reply["shared"] += [{**row, "name": f"{owner}/{row['name']}"} for row in rows]


def _sharing_owners() -> set[str]:
    """Return the users who share kernels by profiles of their own and whose daemons run."""
    if not has_front_door():
        return set()
    from kconnd.core.paths import FRONT_SOCKET  # noqa: PLC0415  # with a front door only

    try:
        uids = Client(FRONT_SOCKET).get("/v1/sharing", limit=SHARED_LIMIT_S)["uids"]
    except KconndError:  # a front door of an earlier version does not have this route
        return set()
    return {name for uid in uids if (name := _user_name(uid))}


def _user_name(uid: int) -> str:
    """Return a user's login name; ``""`` if the account was removed."""
    import pwd  # noqa: PLC0415  # with a front door only

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""


def select_shared(
    kernels: list[dict[str, Any]], names: set[str], *, all_others: bool
) -> list[dict[str, Any]]:
    """Select the kernels of an owner that a list of shared kernels shows.

    Parameters
    ----------
    kernels : list of dict
        The kernels that the owner's daemon shows to this user.
    names : set of str
        The owner's profiles that the machine's profiles share with this user.
    all_others : bool
        Whether to select other kernels, too: at most `MAX_SHARING_ROWS`.
    """
    named = [kernel for kernel in kernels if kernel["name"].partition("@")[0] in names]
    others = [kernel for kernel in kernels if kernel["name"].partition("@")[0] not in names]
    return named + (others[:MAX_SHARING_ROWS] if all_others else [])


def _describe_failure(owner: str, error: Exception, *, by_machine: bool) -> str:
    """Describe why an owner's kernels are not listed; ``""`` for a failure that is usual.

    An owner whom no profile of the machine names may share kernels with other users only. Nothing
    that the daemon of such an owner says is repeated.
    """
    if not isinstance(error, KconndError):
        raise error
    if by_machine:
        return error.message
    return "" if isinstance(error, RefusedError) else f"the daemon of {owner} gave no valid reply"


def _kernels_of_all_users() -> dict[str, Any]:
    from kconnd.core.paths import FRONT_SOCKET  # noqa: PLC0415  # for --all-users only

    reply: dict[str, Any] = Client(FRONT_SOCKET).get("/v1/kernels")
    for kernel in reply["kernels"]:
        kernel["name"] = f"{kernel['owner']}/{kernel['name']}"
    return reply


def _print_kernels(
    kernels: list[dict[str, Any]],
    elsewhere: list[dict[str, Any]],
    startable: list[dict[str, Any]],
) -> None:
    if kernels or startable:
        print(*list_lines(kernels, startable), sep="\n")
    elif not elsewhere:
        print("There are no kernels yet. Write a profile and run kconnd-ctl reload,")
        print("or start an installed kernel spec by its name: kconnd-ctl start python3")
    for kernel in elsewhere:
        print(render.plain(f"on {kernel['machine']}: {kernel['name']} was {kernel['state']}"))


def list_lines(
    kernels: list[dict[str, Any]], startable: Sequence[dict[str, Any]] = ()
) -> list[str]:
    """Render the table of kernels; on a terminal, cut the lines to the terminal's width.

    Kernel specs that could be started are listed after the kernels.
    """
    now = time.time()
    in_colour = render.use_colours(os.environ, is_terminal=sys.stdout.isatty())
    width = os.get_terminal_size(1).columns if sys.stdout.isatty() else 0
    rows = [*(_row(kernel, now) for kernel in kernels), *map(_startable_row, startable)]
    return render.table(
        COLUMNS,
        rows,
        NUMERIC_COLUMNS,
        width=width,
        paint=lambda state, padded: render.coloured(padded, state, in_colour=in_colour),
    )


def _row(kernel: dict[str, Any], now: float) -> tuple[str, ...]:
    uptime = render.seconds_since(kernel["started_at"], now)
    return (
        kernel["name"],
        kernel["state"],
        str(kernel["pid"] or "-"),
        render.size(kernel["memory"]),
        _activity(kernel, now),
        "-" if uptime is None else render.span(uptime),
        str(kernel["restarts"]),
        render.plain(_note(kernel, now)),
    )


def _startable_row(spec: dict[str, Any]) -> tuple[str, ...]:
    """Return the row of a kernel spec without a kernel: what a start of this name would run."""
    from shlex import join  # noqa: PLC0415  # for --all only

    note = spec["error"] or join(spec["argv"])
    origin = render.origin_of_name(spec)
    kind = f"kernel spec ({origin})" if origin else "kernel spec"
    return (spec["name"], STARTABLE, *["-"] * 5, render.plain(f"{kind}: {note}"))


def _activity(kernel: dict[str, Any], now: float) -> str:
    """Return the idle time of an idle kernel; for another kernel, a word for its activity."""
    if kernel["execution_state"] != "idle":
        return kernel["execution_state"] or "-"
    seconds = render.seconds_since(kernel["last_activity"], now)
    return "-" if seconds is None else render.span(seconds)


def _note(kernel: dict[str, Any], now: float) -> str:
    """Explain an unusual state of a kernel, such as backoff or failed, and a derived name."""
    notes = (_state_note(kernel, now), render.origin_of_name(kernel))
    return "; ".join(filter(None, notes))


def _state_note(kernel: dict[str, Any], now: float) -> str:
    if kernel["state"] in {"failed", "lost"}:
        return str(kernel["reason"])
    if kernel["state"] == "backoff":
        delay = -(render.seconds_since(kernel["next_attempt_at"], now) or 0)
        return f"{kernel['reason']}; again in {render.span(delay)}"
    waits_for, reason = kernel.get("waits_for"), kernel.get("unreachable")
    notes = (
        waits_for and f"waits for {waits_for}",
        reason and f"no new client can attach: {reason}",
        kernel["heartbeat"]["state"] == "unresponsive" and "unresponsive",
        kernel.get("unanswered") and "does not answer on its shell channel",
        kernel.get("in_subshells") and "works in a subshell only",
    )
    return next(filter(None, notes), render.profile_status(kernel))
