"""Programs of their own, as a parent and its kernels are, and what they print."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

BEGIN = """
import json, sys
import ipykernel.ipkernel as ipkernel
from ipykernel.kernelapp import IPKernelApp
from traitlets.config import Application
from kconnd.programs.zygote.precompute import Precomputed

def prepare():
    return Precomputed()
"""


def run(
    *words: str, cwd: str | None = None, environment: Mapping[str, str] | None = None
) -> tuple[Any, str]:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", *words],
        capture_output=True,
        text=True,
        check=True,
        cwd=cwd,
        env={**os.environ, **(environment or {})},
    )
    return json.loads(done.stdout.splitlines()[-1]), done.stderr
