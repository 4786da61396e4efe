#!/bin/bash
# nbclient 0.11.0 with ipykernel 7.4.0: a cell that the kernel skipped counts as executed.
#
# Two clients share a kernel. The cell of one waits behind a cell of the other, which fails.
# ipykernel then aborts every queued execute_request, also those of other clients, and replies
# with status 'aborted'. nbclient raises an error for status 'error' alone: the cell has no
# output, no execution count and no error, and the notebook goes on as if it had run.
# Seen: "error raised: none; cell ran: False; status: aborted". Guess beforehand: an error.
#
# Exits with 0 as long as this is so. Needs Python 3.11 or later and pip.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q nbclient==0.11.0 nbformat==5.11.1 ipykernel==7.4.0 \
  jupyter_client==8.10.0 pyzmq==27.3.0
cat >"$folder/two_clients.py" <<'PYTHON'
"""Have a cell wait behind another client's failing cell, and print what nbclient makes of it."""

import asyncio
import pathlib
import sys
import time

import nbformat
from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.manager import start_new_kernel
from nbclient import NotebookClient

folder = pathlib.Path(sys.argv[1])
begun, ran = folder / "begun", folder / "ran"
manager, first = start_new_kernel(kernel_name="python3")
first.execute(
    f"import pathlib, time; pathlib.Path({str(begun)!r}).touch(); time.sleep(3); raise ValueError"
)
while not begun.exists():
    time.sleep(0.01)
cell = nbformat.v4.new_code_cell(f"import pathlib; pathlib.Path({str(ran)!r}).touch()")
replies = []


async def execute() -> str:
    second = AsyncKernelClient(connection_file=manager.connection_file)
    second.load_connection_file()
    second.start_channels()
    notebook = NotebookClient(
        nbformat.v4.new_notebook(cells=[cell]),
        on_cell_executed=lambda **found: replies.append(found["execute_reply"]),
    )
    notebook.kc, notebook.km = second, manager
    notebook.reset_execution_trackers()
    try:
        await notebook.async_execute_cell(cell, 0)
    except Exception as error:
        return type(error).__name__
    return "none"


raised = asyncio.run(execute())
status = replies[0]["content"]["status"] if replies else "none"
print(f"error raised: {raised}; cell ran: {ran.exists()}; status: {status}")
manager.shutdown_kernel(now=True)
PYTHON
seen=$("$folder/venv/bin/python" "$folder/two_clients.py" "$folder" 2>"$folder/stderr") || {
  cat "$folder/stderr" >&2
  exit 2
}
echo "$seen"
[ "$seen" = "error raised: none; cell ran: False; status: aborted" ]
