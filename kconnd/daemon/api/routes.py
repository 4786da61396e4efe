"""What can be asked of the daemon: one function for each request, in one table.

Rules. A function here gets a checked request and gives plain data, or an iterator for a
stream; it knows no socket. The right that each needs stands in the table, and the server asks
for it before the function is called. Replies are an interface: fields are only added.
"""

import os

import kconnd
from kconnd.core.access import Peer, Right, may
from kconnd.core.kernel.lifecycle import State
from kconnd.daemon.api.commands import (
    interrupt,
    open_qtconsole,
    plan_qtconsole,
    restart,
    send_signal,
    start,
    stop,
)
from kconnd.daemon.api.queries import (
    connection,
    events,
    faults,
    info,
    kernels_,
    logs,
    profiles,
    wait,
    why,
)
from kconnd.daemon.api.request import Request
from kconnd.daemon.kernels import Kernels
from kconnd.system.http.openapi import document
from kconnd.system.http.route_table import Parameter, Reply, Route


async def health(request: Request) -> Reply:
    """Tell that the daemon works, where it keeps its things, and how much the peer may see."""
    actors = [one for one in request.kernels.all() if request.may(Right.SEE, one.record.name)]
    all_ = request.manages_all
    return {
        "version": kconnd.__version__,
        "pid": os.getpid(),
        "uid": os.geteuid(),
        "kernels": len(actors),
        "running": sum(actor.kernel.state is State.RUNNING for actor in actors),
        "warm": warm.ready if all_ and (warm := request.kernels.pool) else 0,
        "faults": len(request.kernels.catalog.loaded.faults) if all_ else 0,
        "ready": request.kernels.taken_up.is_set(),
        **request.places,
    }


async def get_ready(kernels: Kernels, route: Route, peer: Peer, name: str) -> None:
    """Wait until a request can be answered: until all is known that it may be about.

    While the daemon takes up what an earlier one left, nobody is told that a kernel is not there.
    """
    if route.at_once:
        return
    await kernels.taken_up.wait()
    if name and may(peer, Right.MANAGE, owner=kernels.world.user.uid):
        await kernels.look_for(name)


async def openapi(_request: Request) -> Reply:
    """Give this table as an OpenAPI document."""
    return document(ROUTES)


async def reload(request: Request) -> Reply:
    """Read the profiles again; no live kernel is touched."""
    difference = await request.kernels.reload()
    return {
        "added": list(difference.added),
        "changed": list(difference.changed),
        "removed": list(difference.removed),
        "unchanged": len(difference.unchanged),
        "faults": faults(request),
    }


_WAIT = Parameter("wait", "boolean", "Whether to reply only when it is done; true by default.")
_NOW = Parameter("now", "boolean", "Whether to go to SIGTERM at once, also in a stop under way.")
_FOLLOW = Parameter("follow", "string", "1 for what comes from now on, too.")
_ONE = "/v1/kernels/{name}"

ROUTES: tuple[Route, ...] = (
    Route("GET", "/v1/health", Right.SEE, health, at_once=True),
    Route("GET", "/v1/openapi.json", Right.SEE, openapi, at_once=True),
    Route(
        "GET",
        "/v1/profiles",
        Right.MANAGE,
        profiles,
        (Parameter("kernel", "string", "Only the one of this name, written down or not."),),
    ),
    Route("POST", "/v1/reload", Right.MANAGE, reload),
    Route(
        "GET",
        "/v1/events",
        Right.CONNECT,
        events,
        (_FOLLOW, Parameter("kernel", "string", "Only this one's.")),
        streams=True,
    ),
    Route("GET", "/v1/kernels", Right.SEE, kernels_),
    Route("GET", _ONE, Right.SEE, info),
    Route("GET", f"{_ONE}/connection", Right.CONNECT, connection),
    Route("GET", f"{_ONE}/why", Right.SEE, why),
    Route(
        "GET",
        f"{_ONE}/logs",
        Right.CONNECT,
        logs,
        (Parameter("lines", "integer", "How many, at most."), _FOLLOW),
        streams=True,
    ),
    Route(
        "GET",
        f"{_ONE}/wait",
        Right.SEE,
        wait,
        (
            Parameter("for", "string", "ready or stopped."),
            Parameter("timeout", "number", "Seconds; without it, as long as it takes."),
        ),
    ),
    Route(
        "POST",
        f"{_ONE}/start",
        Right.CONNECT,
        start,
        (
            _WAIT,
            Parameter("on_demand", "boolean", "Whether to leave kernels that start by hand."),
        ),
    ),
    Route("POST", f"{_ONE}/stop", Right.MANAGE, stop, (_WAIT, _NOW)),
    Route(
        "POST",
        f"{_ONE}/restart",
        Right.MANAGE,
        restart,
        (_WAIT, _NOW, Parameter("new_key", "boolean", "Whether to revoke the key.")),
    ),
    Route("GET", f"{_ONE}/qtconsole", Right.CONNECT, plan_qtconsole),
    Route(
        "POST",
        f"{_ONE}/qtconsole",
        Right.CONNECT,
        open_qtconsole,
        (
            Parameter("environment", "object", "What names the display: DISPLAY and the like."),
            Parameter("options", "array", "Further options of qtconsole."),
        ),
    ),
    Route(
        "POST",
        f"{_ONE}/interrupt",
        Right.CONNECT,
        interrupt,
        (Parameter("wait", "boolean", "Whether to see first if it ends the kernel."),),
    ),
    Route(
        "POST",
        f"{_ONE}/signal",
        Right.MANAGE,
        send_signal,
        (Parameter("signal", "string", "Its name or number."),),
    ),
)
