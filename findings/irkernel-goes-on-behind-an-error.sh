#!/bin/bash
# IRkernel 1.3.2 with evaluate 0.20: behind an error, the other statements of the line run.
#
# A client runs `x <- 1; stop("no"); x <- 2` as a cell, and then the three statements on three
# lines. The reply is an error in both cases. On three lines, the cell ends at the error, as in R
# itself; on one line, the third statement runs, although the cell has failed.
# Seen: "one line: error, x is 2; three lines: error, x is 1". Guess beforehand: x is 1 in both.
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
version=$(R --slave -e 'cat(as.character(packageVersion("evaluate")))')
[ "$version" = 0.20 ] || {
  echo "evaluate is version $version, not 0.20" >&2
  exit 2
}
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q jupyter_client==8.10.0 pyzmq==27.3.0
mkdir -p "$folder/kernels/ir"
cat >"$folder/kernels/ir/kernel.json" <<'JSON'
{"argv": ["R", "--slave", "-e", "IRkernel::main()", "--args", "{connection_file}"],
 "display_name": "R", "language": "R"}
JSON
cat >"$folder/line.py" <<'PYTHON'
"""Run three statements on one line and on three lines, and print how far each cell came."""

from jupyter_client.manager import start_new_kernel

STATEMENTS = ("x <- 1", 'stop("no")', "x <- 2")


def run(client, code: str) -> tuple[str, str]:
    """Run a cell; return the status of its reply and the text that it has printed."""
    request, printed = client.execute(code), ""
    while (reply := client.get_shell_msg(timeout=30))["parent_header"].get("msg_id") != request:
        pass
    while True:
        message = client.get_iopub_msg(timeout=30)
        if message["parent_header"].get("msg_id") == request:
            printed += message["content"].get("text", "")
            if message["content"].get("execution_state") == "idle":
                return reply["content"]["status"], printed


manager, client = start_new_kernel(kernel_name="ir")
try:
    results = []
    for name, code in {"one line": "; ".join(STATEMENTS), "three lines": "\n".join(STATEMENTS)}.items():
        status, _ = run(client, code)
        value = ""
        while not value:  # IRkernel may abort a request that comes directly after an error
            _, value = run(client, "cat(x)")
        results.append(f"{name}: {status}, x is {value}")
    print("; ".join(results))
finally:
    client.stop_channels()
    manager.shutdown_kernel(now=True)
PYTHON
seen=$(JUPYTER_PATH="$folder" timeout 120 "$folder/venv/bin/python" "$folder/line.py" \
  2>"$folder/stderr") || {
  cat "$folder/stderr" >&2
  exit 2
}
echo "$seen"
[ "$seen" = "one line: error, x is 2; three lines: error, x is 1" ]
