#!/bin/bash
# xeus-python 0.19.0 and async-kernel 0.23.1: output of a thread has no parent, so no client shows it.
#
# A cell starts a thread that prints, and waits for it. ipykernel publishes the text with the cell's
# request as its parent. xeus-python and async-kernel publish it with an empty parent_header. Clients
# choose the cell of an output by its parent; nbclient, for one, then stores no output at all for the
# cell, without an error. The output of asyncio.to_thread has its parent in both.
# Seen: "xpython: parent of a thread's output: none; of to_thread's: the cell; outputs that nbclient
# stores: 0", and the same for async. Guess beforehand: the cell, and 1 output.
#
# Exits with 0 as long as this is so. Needs Python 3.11 or later and pip.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q xeus-python==0.19.0 async-kernel==0.23.1 nbclient==0.11.0 \
  nbformat==5.11.1 jupyter_client==8.10.0 pyzmq==27.3.0
cat >"$folder/threads.py" <<'PYTHON'
"""Print the parent of what a thread prints, and how many outputs nbclient stores."""

import sys

import nbformat
from jupyter_client.manager import start_new_kernel
from nbclient import NotebookClient

THREAD = "import threading; t = threading.Thread(target=print, args=('late',)); t.start(); t.join()"
TO_THREAD = "import asyncio; await asyncio.to_thread(print, 'late')"


def parent(client, code: str) -> str:
    request = client.execute(code)
    while (message := client.get_iopub_msg(timeout=30))["msg_type"] != "stream":
        pass
    found = (message["parent_header"] or {}).get("msg_id")
    return {None: "none", request: "the cell"}.get(found, "another")


def stored(kernel: str) -> int:
    cells = [nbformat.v4.new_code_cell(THREAD)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    NotebookClient(notebook, kernel_name=kernel).execute()
    return len(cells[0].outputs)


for kernel in sys.argv[1:]:
    parents = []
    for code in (THREAD, TO_THREAD):
        manager, client = start_new_kernel(kernel_name=kernel)
        try:
            parents.append(parent(client, code))
        finally:
            client.stop_channels()
            manager.shutdown_kernel(now=True)
    print(
        f"{kernel}: parent of a thread's output: {parents[0]}; of to_thread's: {parents[1]}; "
        f"outputs that nbclient stores: {stored(kernel)}"
    )
PYTHON
seen=$(JUPYTER_PATH="$folder/venv/share/jupyter" timeout 200 "$folder/venv/bin/python" -W ignore \
  "$folder/threads.py" xpython async 2>"$folder/stderr" | grep 'parent of') || {
  cat "$folder/stderr" >&2
  exit 2
}
echo "$seen"
[ "$seen" = "xpython: parent of a thread's output: none; of to_thread's: the cell; outputs that \
nbclient stores: 0
async: parent of a thread's output: none; of to_thread's: the cell; outputs that nbclient stores: 0" ]
