#!/bin/bash
# IRkernel 1.3.2: a request with silent=True that fails is answered 'ok'.
#
# A client sends `stop("no")` with silent=True, which the protocol defines as no output, no history
# and no change of the execution count. An error stays an error, as in ipykernel, deno and the wrapper
# kernels; IRkernel replies with the status 'ok', so a client that prepares a kernel silently takes
# a failed preparation for a successful one. Without silent, the reply is an error.
# Seen: "silent: ok; not silent: error". Guess beforehand: error twice.
#
# Exits with 0 as long as this is so. Needs Python 3.11 or later, pip, and Debian's package
# r-cran-irkernel 1.3.2 (or IRkernel of that version in R's library).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
version=$(R --slave -e 'cat(as.character(packageVersion("IRkernel")))') || exit 2
[ "$version" = 1.3.2 ] || {
  echo "IRkernel is version $version, not 1.3.2" >&2
  exit 2
}
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q jupyter_client==8.10.0 pyzmq==27.3.0
mkdir -p "$folder/kernels/ir"
cat >"$folder/kernels/ir/kernel.json" <<'JSON'
{"argv": ["R", "--slave", "-e", "IRkernel::main()", "--args", "{connection_file}"],
 "display_name": "R", "language": "R"}
JSON
cat >"$folder/silent.py" <<'PYTHON'
"""Run a failing cell silently and not silently, and print the status of each reply."""

from jupyter_client.manager import start_new_kernel


def reply(client, code: str, *, silent: bool = False) -> dict:
    request = client.execute(code, silent=silent)
    while True:
        message = client.get_shell_msg(timeout=30)
        if message["parent_header"].get("msg_id") == request:
            return message["content"]


manager, client = start_new_kernel(kernel_name="ir")
try:
    results = []
    for silent in (True, False):
        status = reply(client, 'stop("no")', silent=silent)["status"]
        results.append(f"{'' if silent else 'not '}silent: {status}")
    print("; ".join(results))
finally:
    client.stop_channels()
    manager.shutdown_kernel(now=True)
PYTHON
seen=$(JUPYTER_PATH="$folder" timeout 120 "$folder/venv/bin/python" "$folder/silent.py" \
  2>"$folder/stderr") || {
  cat "$folder/stderr" >&2
  exit 2
}
echo "$seen"
[ "$seen" = "silent: ok; not silent: error" ]
