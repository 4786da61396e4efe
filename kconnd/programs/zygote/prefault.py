"""Copies in advance the memory pages that a kernel writes to while it starts.

A forked kernel shares the zygote's memory, and each first write to a page makes the operating
system copy that page. A start of ipykernel copies about 3,700 pages one by one, and all kernels of
a zygote copy nearly the same pages. The zygote therefore reads the list of these pages from the
page tables of its first kernels. The child that waits for the next kernel's plan then copies these
pages while no user waits. A kernel uses as much memory as without this module, but uses it earlier.
With this module, a forked start takes 0.7 times as long as without. To measure the effect, let
`CopiedPages.copy` return at once and compare the output of ``scripts/bench --only starts``.

Rules. This module imports the standard library only, as `kconnd.programs.zygote.main` explains.
Copying a page does not change its content, so a wrong list costs memory or time and does no other
harm. Linux can copy pages on request since 5.14 (madvise(2), ``MADV_POPULATE_WRITE``). On an older
Linux, `unsupported` returns a reason, and the daemon logs this reason.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import errno
import os

TYPE_CHECKING = False  # importing typing would add a module to every kernel
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
ENTRY_BYTES = 8  # the entry of one page in /proc/PID/pagemap, and an item of an array of "Q"
# Three bits of an entry, in the order of the names below (proc(5)): the page is in memory, the page
# belongs to a file, a single process maps the page.
PRESENT, FILE, EXCLUSIVE = 1 << 63, 1 << 61, 1 << 56
POPULATE_WRITE = 23  # MADV_POPULATE_WRITE in <linux/mman.h>
SAMPLE_COUNT = 3  # some kernels may not have started yet, and others have run code of their user
MAX_BYTES = 32 << 20  # a kernel that has copied more pages has run code of its user


class CopiedPages:
    """The pages that the first kernels of a zygote have copied, as ranges of addresses.

    Parameters
    ----------
    fork : callable
        A function that forks like `os.fork`.
    """

    def __init__(self, fork: Callable[[], int] = os.fork) -> None:
        self.fork = fork
        self.ranges = array.array("Q")  # the start and the size of each range, in bytes
        self.samples: list[array.array[int]] = []  # the pages that each example has copied
        self._madvise = ctypes.CDLL(None, use_errno=True).madvise
        self._madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]

    def unsupported(self) -> str:
        """Return the reason why this system cannot copy pages in advance; ``""`` if it can."""
        if self._madvise(None, 0, POPULATE_WRITE) == 0:
            return ""
        return f"prefault: madvise: {os.strerror(ctypes.get_errno())}"

    def learn(self, kernel: int) -> None:
        """List the pages that the process ``kernel`` has copied, as one of the examples.

        A child makes the lists. If the zygote itself made the list, it would write to pages that it
        shares with all running kernels, and each of these pages would then exist twice.
        """
        if len(self.samples) == SAMPLE_COUNT:
            return
        pages = self._list_in_child(lambda: array.array("Q", copied_pages(kernel)))
        if 0 < len(pages) <= MAX_BYTES // PAGE_BYTES:
            self.samples.append(pages)
            self.ranges = self._list_in_child(lambda: merge(common_pages(self.samples)))

    def _list_in_child(self, make: Callable[[], array.array[int]]) -> array.array[int]:
        """Return the result of a function that a child runs; an empty list if this fails."""
        reading, writing = os.pipe()
        with os.fdopen(reading, "rb") as result, os.fdopen(writing, "wb") as end:
            try:
                pid = self.fork()
            except OSError:  # a temporary shortage of processes or memory
                return array.array("Q")
            if pid == 0:
                try:
                    end.write(make().tobytes())
                    end.flush()
                finally:
                    os._exit(0)  # the code after the fork belongs to the parent
            end.close()
            content = result.read()
        with contextlib.suppress(ChildProcessError):  # SIGCHLD is ignored
            os.waitpid(pid, 0)
        complete = len(content) % ENTRY_BYTES == 0  # else the child was killed
        return array.array("Q", content if complete else b"")

    def copy(self) -> None:
        """Copy the pages into the calling process, which must be a fork of the zygote."""
        for at in range(0, len(self.ranges), 2):
            start, size_bytes = self.ranges[at : at + 2]
            failed = self._madvise(start, size_bytes, POPULATE_WRITE)
            if failed and ctypes.get_errno() == errno.EINVAL:
                return  # the system does not support the request


def copied_pages(pid: int) -> Iterator[int]:
    """Yield, in ascending order, the addresses of the pages that only the process ``pid`` maps.

    Only mappings that the calling process also has are examined, because the later forks of the
    calling process have no other mappings. The other mappings of the process ``pid`` can have
    gigabytes of page table entries.
    """
    with (
        open("/proc/self/maps", encoding="utf-8", errors="replace") as maps,
        open(f"/proc/{pid}/pagemap", "rb", buffering=0) as pagemap,
    ):
        for line in maps:
            addresses, access = line.split()[:2]
            if access != "rw-p":
                continue
            start, end = (int(text, 16) for text in addresses.split("-"))
            pagemap.seek(start // PAGE_BYTES * ENTRY_BYTES)
            entries = array.array("Q", pagemap.read((end - start) // PAGE_BYTES * ENTRY_BYTES))
            for number, entry in enumerate(entries):
                if entry & PRESENT and entry & EXCLUSIVE and not entry & FILE:
                    yield start + number * PAGE_BYTES


def common_pages(samples: list[array.array[int]]) -> list[int]:
    """Return, in ascending order, the pages that each started kernel has copied.

    A kernel with less than half as many pages as another may not have started yet. Such a kernel is
    ignored.
    """
    most = max(map(len, samples))
    started = [set(pages) for pages in samples if 2 * len(pages) > most]
    return sorted(set.intersection(*started))


def merge(pages: Iterable[int]) -> array.array[int]:
    """Merge adjacent pages into ranges: the start and the size of each, in bytes."""
    ranges = array.array("Q")
    end = -1
    for page in pages:
        if page == end:
            ranges[-1] += PAGE_BYTES
        else:
            ranges.extend((page, PAGE_BYTES))
        end = page + PAGE_BYTES
    return ranges
