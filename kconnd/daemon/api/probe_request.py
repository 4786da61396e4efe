"""The route that probes the software of a kernel, or drops what was learned of it."""

from kconnd.core.kernel.view import iso_time
from kconnd.daemon.api.request import Request
from kconnd.daemon.probing.capability_probe import report_to_json
from kconnd.errors import NoSuchKernelError, RefusedError
from kconnd.system.http.route_table import Reply


async def probe(request: Request) -> Reply:
    """Test all facts about a kernel's software on kernels of its own; with ``forget``, drop them.

    A kernel of this name that is running is not changed. Only the owner may probe, because a probe
    runs the owner's programs several times.
    """
    forget = request.flag("forget", default=False)
    kernels, world = request.kernels, request.kernels.world
    if request.peer.uid != world.user.uid:
        raise RefusedError(
            f"probing {request.name}: only {world.user.name}, who owns it, may probe it",
            hint=f"ask {world.user.name}",
        )
    kernels.find(request.name)  # it refuses an unknown name
    profile = kernels.profile(request.name)
    if profile is None:
        raise NoSuchKernelError(
            f"probing {request.name}: its profile or kernel spec was removed",
            hint="restore it to probe it",
        )
    if forget:
        return {"name": request.name, "forgotten": await kernels.prober.forget(profile)}
    report = await kernels.prober.probe(request.name, profile)
    return report_to_json(report, request.name, iso_time(world.wall_clock()))
