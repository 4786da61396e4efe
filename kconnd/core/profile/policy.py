"""Derives the lifecycle policy and the choice of a transport from a profile."""

from kconnd.core.kernel.lifecycle import Policy
from kconnd.core.profile.model import Profile
from kconnd.core.profile.values import Ports


def lifecycle_policy(profile: Profile) -> Policy:
    """Return the settings of a profile that the lifecycle needs."""
    restart = profile.restart
    return Policy(
        restart=restart.policy,
        max_failures=restart.max_failures,
        backoff=restart.backoff,
        backoff_max=restart.backoff_max,
        stable_after=restart.stable_after,
        startup_timeout=profile.startup_timeout,
        stop_timeout=profile.stop_timeout,
        restart_unresponsive=profile.heartbeat.action == "restart",
    )


def needs_tcp(profile: Profile) -> bool:
    """Return whether a profile with ``transport: auto`` has a setting that only tcp supports."""
    return (
        profile.ports != Ports()
        or profile.ip != "127.0.0.1"
        or profile.encryption == "curve"
        or is_shared(profile)
    )


def is_shared(profile: Profile) -> bool:
    """Return whether the profile lets other users connect to its kernels."""
    return bool(profile.access.connect or profile.access.manage)
