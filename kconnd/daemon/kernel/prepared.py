"""The warm kernels that a launch can use instead of starting a process.

`kconnd.daemon.warm` keeps them. This module holds what a launch needs of them, so that a launch
depends on a small interface and not on how warm kernels are made.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from kconnd.core.launch.plan import LaunchPlan
from kconnd.core.profile.model import Profile
from kconnd.daemon.context import Channels
from kconnd.daemon.kernel.prepare import LaunchFiles, Wire
from kconnd.errors import StartFailedError
from kconnd.launchers.base import Handle
from kconnd.system.files.signatures import Signatures


@dataclass(frozen=True)
class WarmKernel:
    """A kernel that runs and has no name yet.

    Parameters
    ----------
    plan, handle, wire : LaunchPlan, Handle, Wire
        How it was launched, its process and how to connect to it.
    channels : Channels
        The daemon's connection to it.
    answer : mapping
        Its reply to ``kernel_info_request``.
    signatures : Signatures
        The files that it has read, with their state at that time.
    """

    plan: LaunchPlan
    handle: Handle
    wire: Wire
    channels: Channels
    answer: Mapping[str, Any]
    signatures: Signatures


class WarmKernels(Protocol):
    """The part of `kconnd.daemon.warm.pool.Pool` that a launch uses."""

    def has(self, profile: Profile) -> bool:
        """Return whether a kernel of a profile is ready."""
        ...

    async def take(
        self, name: str, generation: int, profile: Profile, files: LaunchFiles
    ) -> tuple[WarmKernel, LaunchPlan] | None:
        """Take out a kernel that is identical to a new one, and send it its name."""
        ...

    def hand_over(self, warm: WarmKernel, plan: LaunchPlan) -> Handle:
        """Move the files of a kernel that was taken to the paths of its name."""
        ...

    def discard(self, warm: WarmKernel, why: str) -> object:
        """Terminate a kernel that was taken and cannot be used."""
        ...

    async def launch_with_room(self, plan: LaunchPlan, refusal: StartFailedError) -> Handle:
        """Launch a plan that a quota refused, after terminating a warm kernel."""
        ...
