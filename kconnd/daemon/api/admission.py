"""Who may ask an owner's daemon anything at all: on a machine with the front door, who may there.

The front door only tells where a daemon listens, and everybody may connect to that. So each
daemon asks the same settings, which are root's, whoever it is that asks, its owner too.
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

ROUND = 10.0  # seconds until settings that have changed are noticed by themselves
NO_SETTINGS = MachineSettings()


class Gate:
    """The settings of the machine, as far as they bind this daemon.

    Parameters
    ----------
    live : LiveSettings, optional
        Those settings; without the front door nobody has any.
    """

    def __init__(self, live: LiveSettings | None) -> None:
        self._live = live

    @property
    def settings(self) -> MachineSettings:
        """What holds now.

        Raises
        ------
        RefusedError
            If that cannot be read: who may do what is not guessed.
        """
        try:
            return self._live.now() if self._live else NO_SETTINGS
        except KconndError as error:
            raise RefusedError(
                f"nobody can tell who may use kconnd on this machine: {error.message}",
                hint="an administrator mends /etc/kconnd/kconnd.yaml; all users have to read it",
            ) from error

    @property
    def binds(self) -> bool:
        """Whether there is a front door, and so settings."""
        return self._live is not None

    def check_launcher(self, name: str) -> None:
        """Refuse to launch what nobody would count, where kernels are counted.

        Those of all other launchers are units, which the front door makes and counts.

        Raises
        ------
        StartFailedError
            If so.
        """
        if name == LOCAL and self.settings.quotas.kernels is not None:
            raise StartFailedError(
                "this machine counts each user's kernels, and one of 'launcher: local' is not "
                "counted",
                hint="leave 'launcher' out of the profile (quotas in /etc/kconnd/kconnd.yaml)",
            )

    def admit(self, peer: Peer) -> None:
        """Refuse who may not use the service.

        Raises
        ------
        RefusedError
            If so, or if that cannot be told.
        """
        settings = self.settings
        # Its own user the daemon knows without a look-up, but not by name.
        known = user_as_peer(peer.uid, peer.pid) if settings.users and not peer.name else peer
        check_admitted(settings, known)


async def bound_connections_for_ever(gate: Gate, site: Site) -> None:
    """Let each user have as many connections as the settings say, also once they change."""
    while gate.binds:
        with contextlib.suppress(RefusedError):  # each request tells of it
            site.server.max_connections = gate.settings.connections
        await asyncio.sleep(ROUND)  # a reading of settings is made when asked; nothing tells of it
