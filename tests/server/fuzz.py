"""``python -m tests.server.fuzz SOCKET COUNT``: hostile inputs for the front door, from inside.

Prints one JSON object: how many were sent, what was answered with a 500, and the front door's
descriptors and memory before and after.
"""

import json
import random
import sys
from pathlib import Path

import psutil

from tests.end_to_end import test_hostile as hostile

PATHS = [
    *(b"/v1/health", b"/v1/kernels", b"/v1/owners/self/open", b"/v1/owners/ada/open"),
    *(b"/v1/owners/%00/open", b"/v1/owners/..%2f..%2fetc/open", b"/v1/owners/-1/open"),
    *(b"/v1/owners/99999999999999999999/open", b"/v1/owners/%ff%fe/open", b"/v1/owners//open"),
    *(b"/v1/boot", b"/v1/units", b"/v1/units?x=%ff", b"/v1/openapi.json", b"/", b"*"),
]
BODIES = [
    *(b'{"wanted": 1}', b'{"wanted": "yes"}', b'{"name": "../x", "generation": 1}'),
    b'{"name": "lab", "generation": 1, "program": "/x", "plan": "/y\\u0000", "limits": {}}',
    b'{"name": "lab", "generation": 1e400, "program": [], "plan": {}, "limits": {"User": 0}}',
    b'{"name": "lab", "generation": 1, "program": "/x", "plan": "/y", "limits": {"memory": NaN}}',
]


def main() -> None:
    """Send them all."""
    path, count = Path(sys.argv[1]), int(sys.argv[2])
    front = next(p for p in psutil.process_iter() if "kconnd-front" in " ".join(p.cmdline()))
    hostile.PATHS[:], hostile.BODIES[:] = PATHS, [*hostile.BODIES, *BODIES]
    chance, faults = random.Random(11), []  # noqa: S311  # no secret
    before = (0, 0)
    for number in range(count):
        text = hostile.make(chance)
        answer = hostile.send(path, text, patient=number % 5 == 0)
        if answer.startswith(b"HTTP/1.1 5"):
            faults.append([text[:200].decode("latin1"), answer[:500].decode("latin1")])
        if number == count // 10:
            before = (front.num_fds(), front.memory_info().rss)
    after = (front.num_fds(), front.memory_info().rss)
    found = {"pid": front.pid, "faults": faults[:3], "before": before, "after": after}
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
