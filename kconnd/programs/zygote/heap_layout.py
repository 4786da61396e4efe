"""The heap of a parent, put in order: a kernel copies pages, however little of each it writes to.

So what a kernel writes to lies side by side, and new memory is new pages. Rules. Standard library
only, as for `kconnd.programs.zygote.main`. Done as the last thing before the forks; nothing that a
program could see is another by it.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys

SMALL, APART = 1032, 7  # bytes up to which glibc keeps what is freed apart, and how many of a size
GAPS = (*range(124 * 1024, SMALL, -512), *range(SMALL, 8, -16))  # bytes; larger ones piece by piece


def put_in_order() -> None:
    """Have memory that kernels write to side by side."""
    for step in (gather_names, fill_gaps):
        # A name that is no text; another C library, which does not tell of its heap.
        with contextlib.suppress(AttributeError):
            step()


def gather_names() -> None:
    """Have the names of all modules side by side, since IPython makes a set of them in each kernel.

    They are in as many places as modules were imported, and to have a name in a set writes to it.
    """
    modules = [
        (name.encode("utf-8", "surrogatepass").decode("utf-8", "surrogatepass"), module)
        for name, module in sys.modules.items()
    ]
    sys.modules.clear()
    sys.modules.update(modules)


class Mallinfo(ctypes.Structure):
    """What glibc tells of its heap: ``struct mallinfo2`` of mallinfo(3)."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]


def fill_gaps() -> None:
    """Use up what is free between what is in use, so that new memory is new pages, side by side.

    A kernel that takes memory from a gap copies the page that it is in. Whatever is behind
    ``malloc``, no more is taken than glibc calls free.
    """
    libc = ctypes.CDLL(None)
    libc.mallinfo2.restype = Mallinfo
    libc.sbrk.restype = libc.malloc.restype = ctypes.c_void_p
    libc.sbrk.argtypes, libc.malloc.argtypes = [ctypes.c_ssize_t], [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    for size in GAPS:
        told = libc.mallinfo2()
        unused = libc.sbrk(0) - told.keepcost  # above all that is in use
        apart = APART if size <= SMALL else 0
        for _ in range((told.fordblks - told.keepcost) // size + apart):
            found = libc.malloc(size)
            if not found or found >= unused:
                if size > SMALL:
                    libc.free(found)  # a small one would stay as a gap
                break
