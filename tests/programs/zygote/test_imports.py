"""The patterns that a zygote compiles are those that a kernel needs at its start."""

from pathlib import Path

from tests.programs.zygote.program import run

START = """
import json, os, re, sys
from kconnd.programs.zygote import imports

def cached():
    return {key[1] for key in re._cache if isinstance(key[1], str)}

if sys.argv[1] == "stock":
    imports.fill_caches = lambda: None
imports.import_all(())
before = cached()
from ipykernel.kernelapp import IPKernelApp
IPKernelApp.instance().initialize(["-f", os.path.join(os.environ["IPYTHONDIR"], "kernel.json")])
known = {pattern for pattern, _ in imports.PATTERNS}
print(json.dumps([sorted(cached() - before), sorted(known & cached()), len(known)]),
      file=sys.__stdout__, flush=True)
os._exit(0)
"""


def test_a_kernel_finds_most_of_its_patterns_compiled(tmp_path: Path) -> None:
    (tmp_path / "ipython").mkdir()
    environment = {"IPYTHONDIR": str(tmp_path / "ipython")}
    stock, used, count = run(START, "stock", environment=environment)[0]
    assert len(used) > count / 2, f"a kernel compiles only {used} of {count} patterns"
    filled, *_ = run(START, "filled", environment=environment)[0]
    assert len(filled) < len(stock) / 2, f"compiled in spite of the caches: {filled}"
