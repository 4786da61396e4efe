"""Reads the session of the owner's client from a request that may launch a kernel.

A session is used only if the peer runs as the owner, whom the operating system reports (unix(7)).
The session of any other peer, also of root and of users who may manage the kernel, is not read.
"""

from kconnd.core.launch.session import (
    Session,
    check_sent,
    names_to_request,
    parse_session,
    taken_by,
)
from kconnd.daemon.api.request import Request
from kconnd.daemon.kernel.actor import Actor
from kconnd.errors import SessionWantedError, UsageError
from kconnd.system.process.processes import program_name


def read_session(request: Request, actor: Actor) -> Session | None:
    """Read the session in the body of a request; None if the owner's client has sent no session.

    Parameters
    ----------
    actor : Actor
        The kernel that the request may launch.

    Raises
    ------
    UsageError
        If the session is invalid.
    SessionWantedError
        If the kernel's profile passes variables that the client was not asked for.
    """
    world, peer = request.kernels.world, request.peer
    content = request.body.get("session")
    if peer.uid != world.user.uid or content is None:
        return None
    try:
        session = parse_session(content)
        check_sent(session)
    except ValueError as error:
        raise UsageError(
            f"starting {request.name}: {error}",
            hint="set the variable to plain text, or drop it from pass_env in the profile",
        ) from error
    _check_complete(request, actor, session)
    return taken_by(session, program_name(peer.pid), peer.pid, world.wall_clock())


def _check_complete(request: Request, actor: Actor, session: Session) -> None:
    profile = actor.profile_to_launch
    if names := names_to_request(session, profile.pass_env):
        error = SessionWantedError(
            f"starting {request.name}: its profile passes {', '.join(names)} to the kernel, and "
            "the request does not contain them",
            hint="start it again",
        )
        error.names = names
        raise error
