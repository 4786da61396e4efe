"""Who may ask an owner's daemon anything at all: on a machine with the front door, who may there.

The front door only tells where a daemon listens, and everybody may connect to that. So each
daemon asks the same settings, which are root's, whoever it is that asks, its owner too.
"""

from kconnd.core.access import Peer
from kconnd.core.settings import Settings, check_admitted
from kconnd.errors import KconndError, RefusedError
from kconnd.system.peer import look_up
from kconnd.system.settings import LiveSettings


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
    def settings(self) -> Settings:
        """What holds now.

        Raises
        ------
        RefusedError
            If that cannot be read: who may do what is not guessed.
        """
        try:
            return self._live.now() if self._live else Settings()
        except KconndError as error:
            raise RefusedError(
                f"nobody can tell who may use kconnd on this machine: {error.message}",
                hint="an administrator mends /etc/kconnd/kconnd.yaml; all users have to read it",
            ) from error

    def admit(self, peer: Peer) -> None:
        """Refuse who may not use the service.

        Raises
        ------
        RefusedError
            If so, or if that cannot be told.
        """
        settings = self.settings
        # Its own user the daemon knows without a look-up, but not by name.
        known = look_up(peer.uid, peer.pid) if settings.users and not peer.name else peer
        check_admitted(settings, known)
