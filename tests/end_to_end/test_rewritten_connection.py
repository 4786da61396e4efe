"""Launch scripts that change, replace or remove the connection file of a real ipykernel."""

import json
import os
import sys
from pathlib import Path

import pytest

from kconnd.core.kernel.exposure import REWRITTEN
from kconnd.core.launch.connection import CHANNELS
from tests.conftest import wait_for
from tests.end_to_end.daemon import Daemon, DaemonError, run

RUN = f"exec {sys.executable} -m ipykernel_launcher -f"


def start_wrapped(daemon: Daemon, script: str, profile: str = "transport: tcp") -> None:
    """Start a daemon with the kernel ``lab``, whose kernel spec runs a script of bash."""
    folder = daemon.folder / "jupyter-path/kernels/wrapped"
    folder.mkdir(parents=True)
    spec = {"argv": ["/bin/bash", "-c", script], "display_name": "wrapped", "language": "python"}
    (folder / "kernel.json").write_text(json.dumps(spec))
    daemon.profile("lab", f"kernel: wrapped\n{profile}\n")
    daemon.start(env={**os.environ, "JUPYTER_PATH": str(daemon.folder / "jupyter-path")})


def warnings_of(daemon: Daemon) -> str:
    return "\n".join(daemon.info("lab")["warnings"])


def test_another_address_is_warned_about_with_its_reach(daemon: Daemon) -> None:
    start_wrapped(
        daemon, f"sed -i s/127.0.0.1/0.0.0.0/ {{connection_file}}; {RUN} {{connection_file}}"
    )
    file = daemon.post("lab", "start")["connection_file"]
    wait_for(lambda: "on every address" in warnings_of(daemon), "the warning")
    assert f"{REWRITTEN} (ip 127.0.0.1 → 0.0.0.0);" in warnings_of(daemon)
    assert "everybody who can reach the machine can read its output" in warnings_of(daemon)
    assert run(file, "print(6 * 7)") == "42\n"


@pytest.mark.parametrize("change", ["replaced", "removed"])
def test_a_file_that_was_replaced_or_removed_is_written_again(daemon: Daemon, change: str) -> None:
    copy = daemon.folder / "copy.json"
    steps = {"replaced": 'echo "{\\"shell_port\\": 1}" >$0.new; mv $0.new $0', "removed": "rm $0"}
    script = f"cp $0 {copy}; {steps[change]}; {RUN} {copy}"
    start_wrapped(daemon, f"set -- {{connection_file}}; exec bash -c '{script}' $1")
    file = Path(daemon.post("lab", "start")["connection_file"])
    assert json.loads(file.read_bytes()) == json.loads(copy.read_bytes())
    assert run(str(file), "print(6 * 7)") == "42\n"
    assert (REWRITTEN in warnings_of(daemon)) is (change == "replaced")


def test_a_start_that_fails_on_other_ports_names_the_changed_file(daemon: Daemon) -> None:
    change = "sed -i -E 's/_port\": [0-9]+/_port\": 0/' {connection_file}"
    start_wrapped(
        daemon, f"{change}; {RUN} {{connection_file}}", "transport: tcp\nstartup_timeout: 4s"
    )
    with pytest.raises(DaemonError) as caught:
        daemon.post("lab", "start")
    assert "no answer to kernel_info_request within 4 s" in caught.value.message
    assert REWRITTEN in caught.value.hint
    assert all(f"{channel}_port " in caught.value.hint for channel in CHANNELS)
