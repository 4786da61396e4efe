"""Admits peers to an owner's daemon by the machine's settings, on a machine with a front door.

Every user can ask the front door for the address of a daemon and connect to this address. Each
daemon therefore checks every peer by the machine's settings, even the daemon's owner.
"""

import asyncio
import contextlib

from kconnd.core.access import Peer
from kconnd.core.profile.settings import MachineSettings, check_admitted
from kconnd.errors import KconndError, RefusedError, StartFailedError
from kconnd.launchers.local import LOCAL
from kconnd.system.http.http_server import Site
from kconnd.system.http.peer import user_as_peer
from kconnd.system.profiles.settings_file import LiveSettings

SETTINGS_INTERVAL_S = 10.0  # the time between two checks for changed settings
NO_SETTINGS = MachineSettings()


class Gate:
    """The machine's settings for this daemon.

    Parameters
    ----------
    live : LiveSettings, optional
        The settings; None on a machine without a front door.
    """

    def __init__(self, live: LiveSettings | None) -> None:
        self._live = live

    @property
    def settings(self) -> MachineSettings:
        """The present settings.

        Raises
        ------
        RefusedError
            If the settings cannot be read; the peers' rights are then unknown.
        """
        try:
            return self._live.now() if self._live else NO_SETTINGS
        except KconndError as error:
            raise RefusedError(
                f"the settings of kconnd on this machine cannot be read: {error.message}",
                hint="an administrator corrects /etc/kconnd/kconnd.yaml, which has to be readable",
            ) from error

    @property
    def binds(self) -> bool:
        """Whether the machine's settings apply: only a machine with a front door has settings."""
        return self._live is not None

    def check_launcher(self, name: str) -> None:
        """Refuse the launcher ``local`` if the machine has a quota of kernels.

        The front door counts kernels by their units. It creates a unit for each kernel of the other
        launchers. A kernel of the launcher ``local`` has no unit.

        Raises
        ------
        StartFailedError
            If the machine has a quota of kernels and the launcher is ``local``.
        """
        if name == LOCAL and self.settings.quotas.kernels is not None:
            raise StartFailedError(
                "this machine counts each user's kernels, and kernels of 'launcher: local' "
                "cannot be counted",
                hint="leave 'launcher' out of the profile (quotas in /etc/kconnd/kconnd.yaml)",
            )

    def admit(self, peer: Peer) -> None:
        """Refuse a peer that may not use the service.

        Raises
        ------
        RefusedError
            If the settings do not admit the peer or cannot be read.
        """
        settings = self.settings
        # The server does not look up the name of a peer that is the daemon's own user.
        named = user_as_peer(peer.uid, peer.pid) if settings.users and not peer.name else peer
        check_admitted(settings, named)


async def bound_connections_for_ever(gate: Gate, site: Site) -> None:
    """Apply the settings' limit of connections per user now and after each change."""
    while gate.binds:
        with contextlib.suppress(RefusedError):  # each request reports the error
            site.server.max_connections = gate.settings.connections
        await asyncio.sleep(SETTINGS_INTERVAL_S)  # polled, because no event reports a change
