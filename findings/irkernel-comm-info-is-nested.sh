#!/bin/bash
# IRkernel 1.3.2: the list of comms stands in a second 'content' inside the reply's content.
#
# The protocol puts 'comms', a mapping of comm ids, into the content of comm_info_reply. IRkernel
# answers with {"content": {"comms": []}, "status": "ok"}: one level too deep, and, without comms, a
# list instead of a mapping. A client that reads reply["content"]["comms"], as the protocol says,
# gets a KeyError from every R kernel.
# Seen: "keys: content, status; comms: list". Guess beforehand: "keys: comms, status; comms: dict".
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
cat >"$folder/comms.py" <<'PYTHON'
"""Request the list of comms, and print the shape of the reply."""

from jupyter_client.manager import start_new_kernel

manager, client = start_new_kernel(kernel_name="ir")
try:
    request = client.comm_info()
    while (message := client.get_shell_msg(timeout=30))["parent_header"].get("msg_id") != request:
        pass
    content = message["content"]
    comms = content.get("content", content)["comms"]
    print(f"keys: {', '.join(sorted(content))}; comms: {type(comms).__name__}")
finally:
    client.stop_channels()
    manager.shutdown_kernel(now=True)
PYTHON
seen=$(JUPYTER_PATH="$folder" timeout 120 "$folder/venv/bin/python" "$folder/comms.py" \
  2>"$folder/stderr") || {
  cat "$folder/stderr" >&2
  exit 2
}
echo "$seen"
[ "$seen" = "keys: content, status; comms: list" ]
