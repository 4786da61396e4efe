#!/bin/bash
# ipykernel 7.4.0: a character that a program writes to the file descriptor of stdout in two parts
# reaches clients as two replacement characters.
#
# ipykernel watches file descriptors 1 and 2, so that the output of C code and of child processes
# is published, too. It decodes each read by itself. A program that flushes in the middle of a
# UTF-8 character, as one with a fixed buffer does, has that character broken, while the same bytes
# in a terminal or a file are whole.
# Seen: 'caf' and two U+FFFD. Guess beforehand: 'café', by an incremental decoder.
#
# Exits with 0 as long as this is so. Needs Python 3.11 or later and pip.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q ipykernel==7.4.0 jupyter_client==8.10.0 pyzmq==27.3.0
cat >"$folder/two_parts.py" <<'PYTHON'
"""Write a character in two parts to descriptor 1 of a kernel, and print what a client gets."""

import subprocess
import time

from jupyter_client.manager import start_new_kernel

CODE = """
import os, time
for part in (b"caf", "é".encode()[:1], "é".encode()[1:]):
    os.write(1, part)
    time.sleep(0.5)
"""
manager, client = start_new_kernel(kernel_name="python3", stdout=subprocess.DEVNULL)
texts = []


def take(message):
    if message["msg_type"] == "stream":
        texts.append(message["content"]["text"])


client.execute_interactive(CODE, timeout=30, output_hook=take)
deadline = time.monotonic() + 3
while time.monotonic() < deadline:  # what is published late
    try:
        take(client.get_iopub_msg(timeout=0.5))
    except Exception:
        break
manager.shutdown_kernel(now=True)
print(ascii("".join(texts)))
PYTHON
seen=$("$folder/venv/bin/python" "$folder/two_parts.py" 2>/dev/null)
echo "$seen"
[ "$seen" = "'caf\\ufffd\\ufffd'" ]
