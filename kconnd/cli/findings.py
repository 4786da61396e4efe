"""The input and the output of the checks of ``kconnd-ctl doctor``."""

from __future__ import annotations

from dataclasses import dataclass

from kconnd.errors import KconndError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Any


@dataclass(frozen=True)
class Finding:
    """The outcome of one check.

    Parameters
    ----------
    level : str
        ``ok``, ``warn`` (a problem under some conditions) or ``bad`` (a problem now).
    message : str
        The result of the check; ``--json`` prints it in the field ``what``.
    cure : str
        Instructions to fix the problem; ``""`` if there is no problem.
    """

    level: str
    message: str
    cure: str = ""

    def to_json(self) -> dict[str, str]:
        """Convert the finding to the object that ``--json`` prints."""
        return {"level": self.level, "what": self.message, "cure": self.cure}


@dataclass(frozen=True)
class Surroundings:
    """The input of the checks."""

    health: Mapping[str, Any] | KconndError  # the daemon's reply, or the error without a reply
    runtime: Path
    state: Path
    configs: tuple[Path, ...]
    user: str
    home: str = ""

    @property
    def daemon(self) -> int | None:
        """The pid of the daemon; None if no daemon answers."""
        return None if isinstance(self.health, KconndError) else int(self.health["pid"])
