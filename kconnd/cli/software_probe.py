"""``kconnd-ctl kernelspec probe``: tests what a kernel's software supports, and prints a table.

The daemon makes the probe, on kernels that it starts for this purpose. The reply arrives at the
end. If the command is interrupted, the daemon ends the probe; the facts found so far are kept.
"""

from __future__ import annotations

import os
import sys

from kconnd.cli import render
from kconnd.cli.batch import client_for, exit_code_of, failures_to_json, run_for_each
from kconnd.client import kernel_path
from kconnd.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from kconnd.cli.batch import Failures
    from kconnd.cli.command_line import Arguments

HEAD = ("FACT", "", "EVIDENCE")
VALUES = {True: "yes", False: "no", None: "-"}


def probe(arguments: Arguments) -> int:
    """Probe the software of kernels one after the other, or drop what was learned of it."""
    _check_usage(arguments)
    client, forget = client_for(arguments), bool(arguments.forget)
    show = _print_forgotten if forget else _print_table
    replies: list[dict[str, Any]] = []
    failures: Failures = []

    def request(name: str) -> Any:
        if not forget:
            message = f"probing {name} on kernels of its own, which takes up to some minutes"
            print(render.plain(message), file=sys.stderr, flush=True)
        return client.post(kernel_path(name, "probe"), {"forget": forget})

    def on_success(reply: dict[str, Any]) -> None:
        replies.append(reply)
        if not arguments.json:
            show(reply)

    for name in dict.fromkeys(arguments.profiles):
        failures += run_for_each([name], request, on_success)
    if arguments.json:
        key = "forgotten" if forget else "probed"
        render.print_json({key: replies, "errors": failures_to_json(failures)})
    return exit_code_of(failures)


def _check_usage(arguments: Arguments) -> None:
    if not arguments.profiles:
        raise UsageError("kernelspec probe: PROFILE is missing", hint="name the kernels to probe")
    for option in ("all", "user", "prefix"):
        if getattr(arguments, option):
            raise UsageError(
                f"kernelspec probe: --{option} is an option of install, remove and list",
                hint="kconnd-ctl help kernelspec describes it",
            )


def _print_forgotten(reply: dict[str, Any]) -> None:
    known = "what was learned is dropped" if reply["forgotten"] else "nothing was learned of it"
    print(render.plain(f"{reply['name']}: {known}"), flush=True)


def _print_table(reply: dict[str, Any]) -> None:
    kernel = " ".join(filter(None, (reply["implementation"], reply["implementation_version"])))
    mode = f"its kernel.json says interrupt_mode {reply['interrupt_mode']}"
    took = f"probed {reply['probed_at']} in {reply['took_s']:.0f} s"
    print(render.plain(f"{reply['name']}: {kernel or 'unknown'}, {took}; {mode}"))
    rows = [(row["meaning"], _format(row["value"]), row["evidence"]) for row in reply["facts"]]
    width = os.get_terminal_size(1).columns if sys.stdout.isatty() else 0
    for line in render.table(HEAD, rows, width=width):
        print(line)
    command = f"kconnd-ctl kernelspec probe {reply['name']} --forget"
    print("\nThe next start uses these facts.", render.plain(f"{command} drops them."), flush=True)


def _format(value: bool | float | None) -> str:  # noqa: FBT001  # the value of a fact
    return VALUES[value] if value is None or isinstance(value, bool) else f"{value:.1f}"
