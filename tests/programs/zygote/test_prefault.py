"""Pages that one process has copied are copied in advance by the next, and nothing else changes."""

import array
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kconnd.programs.zygote import prefault
from kconnd.programs.zygote.prefault import PAGE_BYTES, CopiedPages, merge
from tests.programs.zygote.program import run

# A process with 100 pages forks a child that writes to some of them and to a mapping of its own.
# Then it forks two more children: the first copies pages in advance, the second does not.
FAMILY = """
import json, mmap, os, sys
from kconnd.programs.zygote.prefault import PAGE_BYTES, CopiedPages, copied_pages
import ctypes

def numbers_of(pid):
    numbers = ((page - start) // PAGE_BYTES for page in copied_pages(pid))
    return [number for number in numbers if 0 <= number < 100]

def in_child(action):
    (reading, ready), (wait, end) = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(end)
        os.write(ready, b"%d" % (action() or 0))
        os.read(wait, 1)
        os._exit(area[:] != b"x" * len(area))
    return pid, end, int(os.read(reading, 20))

def map_area():
    area = mmap.mmap(-1, 100 * PAGE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    area[:] = b"x" * len(area)
    return area, ctypes.addressof(ctypes.c_char.from_buffer(area))

def write():
    global own
    for number in (*range(10, 20), 30):
        area[number * PAGE_BYTES] = ord("y")
    own, address = map_area()
    return address

area, start = map_area()
pages = CopiedPages()
writer, _, own_start = in_child(write)
has_own = own_start in list(copied_pages(writer))
pages.learn(writer)
ahead, end_of_ahead, _ = in_child(pages.copy)
plain, end_of_plain, _ = in_child(lambda: None)
numbers = [numbers_of(pid) for pid in (writer, ahead, plain)]
os.close(end_of_ahead), os.close(end_of_plain)
statuses = [os.waitpid(pid, 0)[1] for pid in (ahead, plain)]
os.kill(writer, 9)
print(json.dumps([numbers, statuses, has_own, pages.unsupported()]))
"""


def test_a_child_copies_the_pages_that_an_earlier_child_has_written_to() -> None:
    ((written, ahead, plain), statuses, has_own, unsupported), _ = run(FAMILY)
    assert not unsupported
    assert written == ahead == [*range(10, 20), 30]
    assert plain == []
    assert not has_own, "a mapping that only the first child has cannot be copied by another"
    assert statuses == [0, 0], "their content is the same"


@given(st.sets(st.integers(0, 1000)))
def test_ranges_cover_exactly_the_pages_and_do_not_touch_each_other(numbers: set[int]) -> None:
    pages = [number * PAGE_BYTES for number in sorted(numbers)]
    ranges = merge(iter(pages))
    pairs = list(zip(ranges[::2], ranges[1::2], strict=True))
    covered = [page for start, size in pairs for page in range(start, start + size, PAGE_BYTES)]
    assert covered == pages
    assert all(a + size < b for (a, size), (b, _) in itertools.pairwise(pairs))


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> dict[int, int]:
    """Stand in for the page tables: how many pages each pid has copied."""
    counts: dict[int, int] = {}

    def copied_pages(pid: int) -> range:
        if pid not in counts:
            raise FileNotFoundError(pid)
        return range(0, counts[pid] * PAGE_BYTES, PAGE_BYTES)

    monkeypatch.setattr(prefault, "copied_pages", copied_pages)
    return counts


def test_the_pages_that_all_of_the_first_kernels_have_copied_are_kept(
    counts: dict[int, int],
) -> None:
    counts.update({1: 30, 2: 14, 3: 20, 4: 10})
    pages = CopiedPages()
    for pid in (1, 99, 2, 3, 4):  # 99 has ended before it could be examined, 2 starts
        pages.learn(pid)
    assert pages.ranges == array.array("Q", [0, 20 * PAGE_BYTES])


def test_a_kernel_that_has_copied_more_than_a_start_does_is_no_example(
    counts: dict[int, int],
) -> None:
    limit = prefault.MAX_BYTES // PAGE_BYTES
    counts.update({1: limit + 1, 2: 10})
    pages = CopiedPages()
    pages.learn(1)
    assert not pages.ranges
    pages.learn(2)
    assert pages.ranges == array.array("Q", [0, 10 * PAGE_BYTES])


def test_a_system_that_does_not_know_the_request_is_reported_and_asked_once(
    monkeypatch: pytest.MonkeyPatch, counts: dict[int, int]
) -> None:
    monkeypatch.setattr(prefault, "POPULATE_WRITE", 255)
    counts[1] = 10
    pages = CopiedPages()
    pages.learn(1)
    assert pages.unsupported() == "prefault: madvise: Invalid argument"
    pages.copy()
