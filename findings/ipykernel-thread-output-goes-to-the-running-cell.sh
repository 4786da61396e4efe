#!/bin/bash
# ipykernel 7.4.0: a thread's output belongs to the cell that runs when it prints, not to the cell
# that started the thread, as with ipykernel 6.29.5. For a threading.Timer, both do this.
#
# The first cell starts a thread that prints 0.7 s later, the second cell sleeps. The parent of the
# stream message says in which cell a client shows the text. ipykernel 6.29.5 names the first cell,
# 7.4.0 the second. 6.29.5 names the second one, too, if the thread is a threading.Timer, whose
# class has a run method of its own.
# Seen: "7.4.0: Thread in cell 2, Timer in cell 2" and "6.29.5: Thread in cell 1, Timer in cell 2".
# Guess beforehand: cell 1, four times.
#
# Exits with 0 as long as this is so. Needs Python 3.11 or later and pip.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat >"$folder/threads.py" <<'PYTHON'
"""Print which cell gets the output of a thread and of a timer that the first cell has started."""

import importlib.metadata

from jupyter_client.manager import start_new_kernel

STARTS = {
    "Thread": "threading.Thread(target=lambda: (time.sleep(0.7), print('late'))).start()",
    "Timer": "threading.Timer(0.7, lambda: print('late')).start()",
}


def cell_of_output(start: str) -> int:
    """Start a thread in the first cell; return the number of the cell that gets its output."""
    manager, client = start_new_kernel(kernel_name="python3")
    try:
        sent = [client.execute(f"import threading, time; {start}"), client.execute("time.sleep(2)")]
        while "late" not in (message := client.get_iopub_msg(timeout=30))["content"].get("text", ""):
            pass
        return sent.index(message["parent_header"]["msg_id"]) + 1
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


cells = ", ".join(f"{kind} in cell {cell_of_output(start)}" for kind, start in STARTS.items())
print(f"{importlib.metadata.version('ipykernel')}: {cells}")
PYTHON
for version in 7.4.0 6.29.5; do
  python3 -m venv "$folder/$version"
  "$folder/$version/bin/pip" install -q "ipykernel==$version" jupyter_client==8.10.0 pyzmq==27.3.0
  JUPYTER_PATH="$folder/$version/share/jupyter" timeout 120 "$folder/$version/bin/python" \
    "$folder/threads.py" 2>"$folder/stderr" >>"$folder/seen" || {
    cat "$folder/stderr" >&2
    exit 2
  }
done
cat "$folder/seen"
[ "$(cat "$folder/seen")" = "7.4.0: Thread in cell 2, Timer in cell 2
6.29.5: Thread in cell 1, Timer in cell 2" ]
