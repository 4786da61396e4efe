#!/bin/bash
# deno 2.9.8: cells that wait behind a failing cell run, although the request has stop_on_error.
#
# A client sends three cells at once: one that waits a second and then throws, and two that print.
# All three requests have stop_on_error (jupyter_client's default). ipykernel, IRkernel and the
# wrapper kernels on ipykernel abort the waiting cells; deno runs them, on the state that the failed
# cell has left.
# Seen: "error, ok, ok; printed: 2". Guess beforehand: "error, aborted, aborted; printed: 0".
#
# Exits with 0 as long as this is so. Needs Python 3.11 or later and pip.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q deno==2.9.8 jupyter_client==8.10.0 pyzmq==27.3.0
HOME="$folder" "$folder/venv/bin/deno" jupyter --install >/dev/null 2>&1
cat >"$folder/cells.py" <<'PYTHON'
"""Send three cells at once, and print the status of each reply and how many cells printed."""

import queue

from jupyter_client.manager import start_new_kernel

CELLS = (
    "await new Promise((done) => setTimeout(done, 1000)); throw new Error('first')",
    "console.log('second')",
    "console.log('third')",
)
manager, client = start_new_kernel(kernel_name="deno")
try:
    sent = [client.execute(code) for code in CELLS]
    replies = {}
    while len(replies) < len(sent):
        reply = client.get_shell_msg(timeout=30)
        replies[reply["parent_header"].get("msg_id")] = reply["content"]["status"]
    printed = 0
    while True:
        try:
            printed += client.get_iopub_msg(timeout=2)["msg_type"] == "stream"
        except queue.Empty:
            break
    print(", ".join(replies[one] for one in sent) + f"; printed: {printed}")
finally:
    client.stop_channels()
    manager.shutdown_kernel(now=True)
PYTHON
seen=$(HOME="$folder" JUPYTER_PATH="$folder/.local/share/jupyter" timeout 120 \
  "$folder/venv/bin/python" "$folder/cells.py" 2>"$folder/stderr") || {
  cat "$folder/stderr" >&2
  exit 2
}
echo "$seen"
[ "$seen" = "error, ok, ok; printed: 2" ]
