"""Finds the kernel's name for a name from a request, which can be Jupyter's name of a kernel spec.

All parts of the daemon behind this module know kernel names only (`kconnd.core.names`). The name is
derived before the request is authorised. A peer without rights therefore gets the same error for
every name, and cannot cause a search of the disk.
"""

from kconnd.core.names import kernel_name
from kconnd.core.unknown_kernel import describe_clash, explain_unknown_spec
from kconnd.daemon.kernels import Kernels
from kconnd.errors import UsageError


async def resolve(kernels: Kernels, text: str, *, search: bool) -> str:
    """Return the kernel's name for a name from a request; an invalid name is returned unchanged.

    Wait until it is known whether the kernel exists.

    Parameters
    ----------
    search : bool
        Whether to search for an unknown name on disk, and to refuse Jupyter's name of a kernel spec
        that leads to no kernel: whether the peer has the rights of the owner.

    Raises
    ------
    UsageError, NoSuchKernelError
        If the name is Jupyter's and does not lead to the kernel of this kernel spec.
    """
    try:
        name = kernel_name(text)
    except UsageError:
        return text
    if name == text:  # a profile cannot have any other name
        await kernels.await_profile(name)
    if search:
        await kernels.search_for(name)
        if name != text:
            _check_jupyter_name(kernels, text, name)
    return name


def _check_jupyter_name(kernels: Kernels, text: str, name: str) -> None:
    """Refuse Jupyter's name of a kernel spec unless it leads to the kernel of this kernel spec."""
    if holder := kernels.catalog.find_holder(text, name):
        raise describe_clash(text, name, holder)
    if not kernels.is_known(name):
        raise explain_unknown_spec(text, kernels.catalog.spec_names.specs)
