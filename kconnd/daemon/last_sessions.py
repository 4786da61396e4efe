"""The session of each profile's latest launch, with which warm kernels and zygotes are made.

A warm kernel is used only if it inherits what the kernel to launch would inherit. The next start
most likely comes from the same terminal as the last one, so warm kernels inherit from the session
of the profile's latest launch. For a profile without a launch, it is the latest session of any
profile.
"""

from kconnd.core.launch.session import Session, material_of


class LastSessions:
    """The latest session by profile; None stands for launches without a session."""

    def __init__(self) -> None:
        self._latest: Session | None = None
        self._by_profile: dict[str, Session | None] = {}

    def restore(self, kernel: str, session: Session | None) -> None:
        """Take the session in the record of a kernel, unless a later one is known."""
        if session is None:
            return
        profile = _profile_of(kernel)
        known = self._by_profile.get(profile)
        if known is None or known.time < session.time:
            self._by_profile[profile] = session
        if self._latest is None or self._latest.time < session.time:
            self._latest = session

    def keep(self, kernel: str, session: Session | None) -> bool:
        """Keep the session of a launch; return whether its profile's next kernels inherit others.

        Parameters
        ----------
        kernel : str
            The name of the kernel.
        session : Session, optional
            The session of the launch.
        """
        before = self.find(kernel)
        self._by_profile[_profile_of(kernel)] = session
        self._latest = session or self._latest
        return material_of(before) != material_of(session)

    def find(self, kernel: str) -> Session | None:
        """Return the session from which the next kernel of a profile most likely inherits."""
        return self._by_profile.get(_profile_of(kernel), self._latest)


def _profile_of(kernel: str) -> str:
    return kernel.partition("@")[0]
