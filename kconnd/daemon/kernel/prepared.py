"""The warm kernels that a launch can use instead of starting a process.

`kconnd.daemon.warm` creates and keeps the warm kernels. This module defines the interface through
which a launch uses them. The launch therefore need not import `kconnd.daemon.warm`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from kconnd.core.launch.plan import LaunchPlan
from kconnd.core.profile.model import Profile
from kconnd.daemon.context import Channels
from kconnd.daemon.kernel.wiring import Wire
from kconnd.errors import StartFailedError
from kconnd.launchers.base import Handle
from kconnd.system.files.signatures import Signatures
from kconnd.system.launch_files import LaunchFiles


@dataclass(frozen=True)
class WarmKernel:
    """A running kernel that has no name yet.

    Parameters
    ----------
    plan, handle, wire : LaunchPlan, Handle, Wire
        The plan of the launch, the process, and the connection.
    channels : Channels
        The daemon's connection to the kernel.
    answer : mapping
        The kernel's reply to ``kernel_info_request``.
    signatures : Signatures
        The files that the kernel has read, with the state of each file when it was read.
    """

    plan: LaunchPlan
    handle: Handle
    wire: Wire
    channels: Channels
    answer: Mapping[str, Any]
    signatures: Signatures


class WarmKernels(Protocol):
    """The part of `kconnd.daemon.warm.pool.Pool` that a launch uses."""

    def look_again(self) -> None:
        """Check the warm kernels now."""
        ...

    def has(self, profile: Profile) -> bool:
        """Return whether a warm kernel of a profile is ready."""
        ...

    async def take(
        self, name: str, generation: int, profile: Profile, files: LaunchFiles
    ) -> tuple[WarmKernel, LaunchPlan] | None:
        """Take a warm kernel that is identical to the kernel to launch, and send the name to it."""
        ...

    def hand_over(self, warm: WarmKernel, plan: LaunchPlan) -> Handle:
        """Move the files of a taken kernel to the paths of its new name."""
        ...

    def discard(self, warm: WarmKernel, why: str) -> object:
        """Terminate a taken kernel that cannot be used."""
        ...

    async def launch_with_room(self, plan: LaunchPlan, refusal: StartFailedError) -> Handle:
        """Terminate a warm kernel, then retry a launch that a quota has refused."""
        ...
