"""``python -m tests.server.fuzz SOCKET COUNT`` sends hostile inputs to the front door.

It runs in the control group of root's daemon, because only daemons may request units. It sends a
quarter of the inputs as a user without rights, because root passes every check. It prints one JSON
object: the faulty replies, the number of inputs, the number of inputs that a route's own function
received as a JSON object, and the front door's open descriptors and memory before and after.
"""

import json
import sys
from collections import Counter
from itertools import cycle
from pathlib import Path

import psutil
from hypothesis import HealthCheck, Phase, Verbosity, given, settings

from tests.hostile_inputs import Input, Target, inputs, reached, send

NOBODY = 65534
SENDERS = cycle((0, 0, 0, NOBODY))
# An invalid path keeps the front door from granting any request for a unit.
FRONT = Target(
    changing=(
        *[("/v1/units", ("program",))] * 4,
        *[("/v1/units", ("limits", "generation"))] * 2,
        *[("/v1/units?x=%ff", ("plan",)), ("/v1/units", ("name", "program"))],
        *[("/v1/scopes", ("pid",))] * 2,
        *[("/v1/scopes", ("generation",)), ("/v1/scopes", ("name", "limits"))],
        *[("/v1/boot", ("wanted",)), ("/v1/sharing", ("wanted",))] * 2,
        *[("/v1/owners/%00/open", ()), ("/v1/owners/..%2f..%2fetc/open", ())],
        *[("/v1/owners/-1/open", ()), ("/v1/owners/%ff%fe/open", ())],
        ("/v1/owners/99999999999999999999/open", ()),
    ),
    looking=(
        *("/v1/health", "/v1/kernels", "/v1/openapi.json", "/v1/units", "/", "*", "//"),
        *("/v1/owners//open", "/v1/boot", "/v1/health?x=%ff"),
    ),
    fields=("name", "generation", "program", "plan", "limits", "pid", "wanted", "User", ""),
    slow=(b"/v1/owners/self/open", b"/v1/owners/ada/open", b"/v1/kernels"),
)


def main() -> None:
    """Send all inputs and print the outcome."""
    path, count = Path(sys.argv[1]), int(sys.argv[2])
    front = next(p for p in psutil.process_iter() if "kconnd-front" in " ".join(p.cmdline()))
    seen, faults, before = Counter[str](), [], [0, 0]

    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        verbosity=Verbosity.quiet,  # the faults are printed at the end
    )
    @given(inputs(FRONT))
    def attack(what: Input) -> None:
        uid = next(SENDERS)
        answer = send(path, what, uid)
        if answer.startswith(b"HTTP/1.1 5") or (what.framed and not answer):
            faults.append([what.text[:200].decode("latin1"), answer[:500].decode("latin1")])
        seen["sent"] += 1
        if reached(what, answer):
            seen[f"reached as {uid}"] += 1
        if seen["sent"] == count // 10:
            before[:] = front.num_fds(), front.memory_info().rss

    attack()
    if seen["reached as 0"] < seen["sent"] * 2 // 5:
        faults.append(["too few got to a route's own function", str(seen)])
    after = (front.num_fds(), front.memory_info().rss)
    found = {"pid": front.pid, "faults": faults[:3], "before": before, "after": after}
    sys.stdout.write(json.dumps({**found, **seen}) + "\n")


if __name__ == "__main__":
    main()
