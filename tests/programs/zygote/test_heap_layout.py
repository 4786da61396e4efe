"""Memory is put in order, and nothing else is another for it."""

import platform

import pytest

from tests.programs.zygote.program import run

GAPS = """
import ctypes, json, sys
from kconnd.programs.zygote.heap_layout import Mallinfo, fill_gaps
libc = ctypes.CDLL(None)
libc.mallinfo2.restype = Mallinfo
libc.malloc.restype = ctypes.c_void_p

def told():
    found = libc.mallinfo2()
    return found.fordblks - found.keepcost, found.arena

held = [bytes(size) for size in range(600, 60_000, 100)]
del held[::2]  # which leaves a gap between any two
before = told()
fill_gaps()
after = told()
places = [libc.malloc(size) for size in range(600, 60_000, 5000)]
print(json.dumps([before, after, places == sorted(places)]))
"""
NAMES = """
import json, sys
from kconnd.programs.zygote.heap_layout import gather_module_names
import email.message, xml.dom
sys.modules["odd \\udc80"] = json
before = list(sys.modules.items())
gather_module_names()
after = list(sys.modules.items())
import email.message as again
print(json.dumps([before == after, sum(a is b for (a, _), (b, _) in zip(before, after)),
                  again is before[[name for name, _ in before].index("email.message")][1]]))
"""


def test_the_modules_are_the_same_by_names_of_their_own() -> None:
    (same, shared, found), _ = run(NAMES)
    assert (same, shared, found) == (True, 0, True)


telling = pytest.mark.skipif(platform.libc_ver() < ("glibc", "2.33"), reason="it does not tell")


@telling
def test_what_is_taken_next_is_no_gap_between_what_is_in_use() -> None:
    ((gaps, size), (left, size_then), in_order), _ = run(GAPS)
    assert gaps > 1_000_000
    assert left < 10_000
    assert size_then - size < 200_000, "the heap has hardly grown for it"
    assert in_order


@telling
def test_gaps_are_not_filled_for_ever_where_python_lives_among_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONMALLOC", "malloc")
    run(GAPS.replace("fill_gaps()", "for _ in range(3): fill_gaps()"))
