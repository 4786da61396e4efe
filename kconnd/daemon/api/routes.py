"""The table of routes: each route has a function and a required right.

The server checks the right before it calls a route's function. The function takes a `Request` and
returns plain data, or an iterator for a stream. The function does not use the socket. The fields of
a reply are a public interface: fields are added and never removed.
"""

import os

import kconnd
from kconnd.core.access import Peer, Right, may
from kconnd.core.kernel.lifecycle import State
from kconnd.daemon.api.commands import (
    interrupt,
    move_notebook,
    open_qtconsole,
    plan_qtconsole,
    restart,
    send_signal,
    start,
    stop,
)
from kconnd.daemon.api.kernel_names import resolve
from kconnd.daemon.api.probe_request import probe
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
    """Describe the daemon: its process, its folders and the number of visible kernels."""
    actors, manages_all = request.visible_kernels(), request.manages_all
    return {
        "version": kconnd.__version__,
        "pid": os.getpid(),
        "uid": os.geteuid(),
        "kernels": len(actors),
        "running": sum(actor.kernel.state is State.RUNNING for actor in actors),
        "warm": warm.ready if manages_all and (warm := request.kernels.pool) else 0,
        "faults": len(request.kernels.catalog.loaded.faults) if manages_all else 0,
        "ready": request.kernels.adopted.is_set(),
        **request.places,
    }


async def get_ready(kernels: Kernels, route: Route, peer: Peer, name: str) -> str:
    """Wait until the daemon knows whether the kernel of a request exists; return its name.

    The daemon knows this when all kernels of an earlier daemon are adopted, and when all changed
    profiles are read. A reply before that time could wrongly state that the kernel does not exist.
    """
    if route.at_once:
        return name
    await kernels.adopted.wait()
    if not name:
        return ""
    manages = may(peer, Right.MANAGE, owner=kernels.world.user.uid)
    return await resolve(kernels, name, search=manages)


async def openapi(_request: Request) -> Reply:
    """Return the table of routes as an OpenAPI document."""
    return document(ROUTES)


async def reload(request: Request) -> Reply:
    """Reload the profiles; live kernels are not changed."""
    difference = await request.kernels.reload()
    return {
        "added": list(difference.added),
        "changed": list(difference.changed),
        "removed": list(difference.removed),
        "unchanged": len(difference.unchanged),
        "faults": faults(request),
    }


_SESSION = Parameter(
    "session", "object", "PATH, umask and variables for the kernel; used if they are the owner's."
)
_WAIT = Parameter("wait", "boolean", "Whether to wait for the outcome; true by default.")
_NOW = Parameter("now", "boolean", "Whether to send SIGTERM at once, also during another stop.")
_FOLLOW = Parameter("follow", "string", "1 to continue with new lines.")
_ONE = "/v1/kernels/{name}"

ROUTES: tuple[Route, ...] = (
    Route("GET", "/v1/health", Right.SEE, health, at_once=True),
    Route("GET", "/v1/openapi.json", Right.SEE, openapi, at_once=True),
    Route(
        "GET",
        "/v1/profiles",
        Right.MANAGE,
        profiles,
        (Parameter("kernel", "string", "Only the profile of this name; it may be a kernel spec."),),
    ),
    Route("POST", "/v1/reload", Right.MANAGE, reload),
    Route(
        "GET",
        "/v1/events",
        Right.CONNECT,
        events,
        (_FOLLOW, Parameter("kernel", "string", "Only the events of this kernel.")),
        streams=True,
    ),
    Route(
        "GET",
        "/v1/kernels",
        Right.SEE,
        kernels_,
        (
            Parameter("startable", "string", "1 to add the kernel specs that could be started."),
            Parameter("quick", "string", "1 to omit memory and clients, which take time to read."),
        ),
    ),
    Route(
        "GET",
        _ONE,
        Right.SEE,
        info,
        (Parameter("check", "string", "1 to send an idle kernel a request on its shells first."),),
    ),
    Route("GET", f"{_ONE}/connection", Right.CONNECT, connection),
    Route("GET", f"{_ONE}/why", Right.SEE, why),
    Route(
        "GET",
        f"{_ONE}/logs",
        Right.CONNECT,
        logs,
        (Parameter("lines", "integer", "The largest number of lines."), _FOLLOW),
        streams=True,
    ),
    Route(
        "GET",
        f"{_ONE}/wait",
        Right.SEE,
        wait,
        (
            Parameter("for", "string", "ready or stopped."),
            Parameter("timeout", "number", "The limit in seconds; by default there is none."),
        ),
    ),
    Route(
        "POST",
        f"{_ONE}/start",
        Right.CONNECT,
        start,
        (
            _WAIT,
            Parameter("on_demand", "boolean", "Whether to refuse a kernel with start: manual."),
            _SESSION,
            Parameter("notebook", "object", "The folder, the name and the file of a notebook."),
            Parameter("is_run", "boolean", "Whether a run such as papermill has the kernel."),
        ),
    ),
    Route(
        "POST",
        f"{_ONE}/notebook",
        Right.MANAGE,
        move_notebook,
        (Parameter("notebook", "object", "Its folder, its name, and what identifies its file."),),
    ),
    Route("POST", f"{_ONE}/stop", Right.MANAGE, stop, (_WAIT, _NOW)),
    Route(
        "POST",
        f"{_ONE}/restart",
        Right.MANAGE,
        restart,
        (_WAIT, _NOW, Parameter("new_key", "boolean", "Whether to revoke the key."), _SESSION),
    ),
    Route("GET", f"{_ONE}/qtconsole", Right.CONNECT, plan_qtconsole),
    Route(
        "POST",
        f"{_ONE}/qtconsole",
        Right.CONNECT,
        open_qtconsole,
        (
            Parameter("environment", "object", "The display's variables, such as DISPLAY."),
            Parameter("options", "array", "Further options of qtconsole."),
        ),
    ),
    Route(
        "POST",
        f"{_ONE}/interrupt",
        Right.CONNECT,
        interrupt,
        (
            Parameter(
                "wait",
                "boolean",
                "Whether to wait for the effect: an error if the cell goes on, or the kernel ends.",
            ),
        ),
    ),
    Route(
        "POST",
        f"{_ONE}/signal",
        Right.MANAGE,
        send_signal,
        (Parameter("signal", "string", "The name or number of the signal."),),
    ),
    Route(
        "POST",
        f"{_ONE}/probe",
        Right.MANAGE,
        probe,
        (Parameter("forget", "boolean", "Whether to drop what was learned instead."),),
    ),
)
