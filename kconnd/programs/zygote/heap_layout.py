"""Arranges the zygote's heap so that forked kernels copy fewer memory pages.

When a forked kernel writes one byte of a shared page, the operating system copies the whole page.
Every kernel writes to the reference counts of certain strings, and this module moves these strings
to adjacent pages. It also allocates the gaps (free chunks) between live objects. Later allocations
of a kernel are then in new pages and cause no copy of a shared page. Together, the two steps save a
forked kernel 9 % of its own memory, and 4 % of its processor time until the first reply. To measure
the effect, let `arrange` return at once and compare the output of ``scripts/bench --only costs``.

Rules. This module imports the standard library only, as `kconnd.programs.zygote.main` explains. The
zygote calls `arrange` as its last step before it forks. A program in a kernel cannot observe the
new layout. A step that is impossible on this system is skipped and reported, and the daemon logs
the report.
"""

from __future__ import annotations

import ctypes
import sys

# glibc caches freed chunks of up to MAX_CACHED_BYTES, and at most CACHED_CHUNKS of each size.
# mallinfo2 does not count the cached chunks as free.
MAX_CACHED_BYTES, CACHED_CHUNKS = 1032, 7
# The sizes of the chunks that fill the gaps. A large gap is filled with several chunks.
GAP_BYTES = (
    *range(124 * 1024, MAX_CACHED_BYTES, -512),
    *range(MAX_CACHED_BYTES, 8, -16),
)


def arrange() -> list[str]:
    """Arrange the heap; return each skipped step with the reason."""
    skipped = []
    for step in (gather_module_names, fill_gaps):
        try:
            step()
        # Raised if the name of a module is not a string, or if the C library has no mallinfo2.
        except AttributeError as error:
            skipped.append(f"heap_layout.{step.__name__}: {error}")
    return skipped


def gather_module_names() -> None:
    """Copy the names of all modules to adjacent memory.

    In each kernel, IPython builds a set of these names. This writes to the reference count of each
    name. The original strings are scattered over the heap, because each was allocated when its
    module was imported.
    """
    modules = [
        (name.encode("utf-8", "surrogatepass").decode("utf-8", "surrogatepass"), module)
        for name, module in sys.modules.items()
    ]
    sys.modules.clear()
    sys.modules.update(modules)


class Mallinfo(ctypes.Structure):
    """Statistics of glibc's heap: ``struct mallinfo2`` of mallinfo(3)."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]


def fill_gaps() -> None:
    """Allocate the gaps (free chunks) between live objects; later allocations get new pages.

    A kernel that allocated a gap would write to a shared page and thereby copy it. This function
    allocates at most as much memory as glibc reports as free. This limit also holds if another
    library implements ``malloc``.
    """
    libc = ctypes.CDLL(None)
    libc.mallinfo2.restype = Mallinfo
    libc.sbrk.restype = libc.malloc.restype = ctypes.c_void_p
    libc.sbrk.argtypes, libc.malloc.argtypes = [ctypes.c_ssize_t], [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    for size in GAP_BYTES:
        heap = libc.mallinfo2()
        unused = libc.sbrk(0) - heap.keepcost  # the end of the used part of the heap
        cached = CACHED_CHUNKS if size <= MAX_CACHED_BYTES else 0
        for _ in range((heap.fordblks - heap.keepcost) // size + cached):
            address = libc.malloc(size)
            if not address or address >= unused:
                # This chunk is not in a gap. It is freed unless it is small: a small free chunk
                # would be a new gap.
                if size > MAX_CACHED_BYTES:
                    libc.free(address)
                break
