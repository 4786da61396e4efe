#!/bin/bash
# xeus-python 0.19.0: a queued cell that runs well is answered with the error of the cell before it.
#
# A client sends four cells at once, as 'Run all' does: one that sleeps, one that fails, and two that
# are right. The protocol lets a kernel skip cells behind a failed one (status 'aborted') if the
# failed request has stop_on_error, and has it run them otherwise. xeus-python runs them in both
# cases, publishes their output, and then publishes and answers the error of the second cell for
# each of them. Sent one after the other, the last two are answered 'ok'.
# Seen: "stop_on_error=True: ok, error, error (printed), error (printed)", the same words for False.
# Guess beforehand: "ok, error, aborted, aborted" for True, "ok, error, ok, ok" for False.
#
# Exits with 0 as long as this is so. Needs Python 3.11 or later and pip.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q xeus-python==0.19.0 jupyter_client==8.10.0 pyzmq==27.3.0
cat >"$folder/cells.py" <<'PYTHON'
"""Send four cells at once, twice, and print the status of each reply and whether it printed."""

import queue

from jupyter_client.manager import start_new_kernel

CELLS = ("import time; time.sleep(1)", "1/0", "print('ran')", "print('ran')")


def statuses(client, *, stop: bool) -> str:
    sent = [client.execute(code, stop_on_error=stop) for code in CELLS]
    replies = {}
    while len(replies) < len(sent):
        reply = client.get_shell_msg(timeout=30)
        replies[reply["parent_header"].get("msg_id")] = reply["content"]["status"]
    printed = set()
    while True:
        try:
            message = client.get_iopub_msg(timeout=2)
        except queue.Empty:
            break
        if message["msg_type"] == "stream":
            printed.add(message["parent_header"].get("msg_id"))
    return ", ".join(replies[one] + (" (printed)" if one in printed else "") for one in sent)


manager, client = start_new_kernel(kernel_name="xpython")
try:
    for stop in (True, False):
        print(f"stop_on_error={stop}: {statuses(client, stop=stop)}")
finally:
    client.stop_channels()
    manager.shutdown_kernel(now=True)
PYTHON
seen=$(JUPYTER_PATH="$folder/venv/share/jupyter" timeout 120 "$folder/venv/bin/python" \
  "$folder/cells.py" 2>"$folder/stderr" | grep '^stop_on_error') || {
  cat "$folder/stderr" >&2
  exit 2
}
echo "$seen"
[ "$seen" = "stop_on_error=True: ok, error, error (printed), error (printed)
stop_on_error=False: ok, error, error (printed), error (printed)" ]
