"""The command as a whole: help, usage, exit codes, errors, what is imported, how it ends."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kconnd.cli.grammar import VERBS
from kconnd.client import has_front_door
from kconnd.errors import KconndError
from tests.cli.conftest import ROOT, Ctl, ctl_process
from tests.cli.fake_daemon import STOPPED, FakeDaemon, Raw, Stream, chunk
from tests.conftest import wait_for

WITHOUT_JSON_HELP = {"check", "schema", "profiles", "health", "help"}


def test_help_lists_every_verb_and_every_exit_code(ctl: Ctl) -> None:
    shown = ctl("--help")
    assert (shown.code, shown.err) == (0, "")
    for verb in VERBS:
        assert f"\n  {verb} " in shown.out
    for kind in KconndError.__subclasses__():
        assert f" {kind.exit_code} " in shown.out
    assert max(map(len, shown.out.splitlines())) <= 100


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_its_options(verb: str, ctl: Ctl) -> None:
    shown = ctl(verb, "--help")
    assert (shown.code, shown.err) == (0, "")
    assert shown.out.startswith(f"usage: kconnd-ctl {verb}")
    assert "--json" in shown.out
    assert "--socket" in shown.out


@pytest.mark.parametrize("verb", sorted(set(VERBS) - WITHOUT_JSON_HELP))
def test_the_help_of_a_verb_tells_the_fields_of_its_json(verb: str, ctl: Ctl) -> None:
    assert "with --json:" in ctl(verb, "--help").out


def test_version(ctl: Ctl) -> None:
    assert ctl("--version").out.startswith("kconnd-ctl ")


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (
            ["lst"],
            "'lst' is not a verb of kconnd-ctl",
            "did you mean 'list'? kconnd-ctl help lists the verbs",
        ),
        (["xyzzy"], "'xyzzy' is not a verb of kconnd-ctl", "kconnd-ctl help lists the verbs"),
        (
            ["info"],
            "info: NAME is missing",
            "NAME is a kernel, or a pattern such as 'lab*'; kconnd-ctl help info describes it",
        ),
        (
            ["info", "a", "--jason"],
            "info: there is no option --jason",
            (
                "did you mean --json? "
                "allowed: -h/--help, --json, --socket PATH; kconnd-ctl help info describes it"
            ),
        ),
        (
            ["signal", "a"],
            "signal: -s/--signal SIG is missing",
            "SIG is the name or number of the signal; kconnd-ctl help signal describes it",
        ),
        (
            ["logs", "a", "-n", "many"],
            "logs: -n: 'many' is not a whole number",
            "kconnd-ctl help logs describes it",
        ),
        (["stop"], "either NAME or --all is required", "kconnd-ctl help stop describes it"),
        (["stop", "a", "--all"], "either NAME or --all", "kconnd-ctl help stop describes it"),
        (["wait", "a", "--timeout", "soon"], "--timeout", None),
    ],
)
def test_bad_usage_is_one_sentence_and_a_hint(
    arguments: list[str], message: str, hint: str | None, ctl: Ctl, daemon: FakeDaemon
) -> None:
    daemon.add("a")
    shown = ctl(*arguments)
    first, *more = shown.err.splitlines()
    assert (shown.code, shown.out) == (2, "")
    assert first.startswith("kconnd-ctl: ")
    assert message in first
    assert more == ([] if hint is None else [f"  {hint}"])


def test_no_verb_shows_help_as_a_mistake(ctl: Ctl) -> None:
    shown = ctl()
    assert (shown.code, shown.out) == (2, "")
    assert "Exit codes" in shown.err


@pytest.mark.parametrize("kind", KconndError.__subclasses__(), ids=lambda kind: kind.code)
def test_an_error_gives_its_exit_code_one_sentence_and_its_hint(
    kind: type[KconndError], ctl: Ctl, daemon: FakeDaemon
) -> None:
    daemon.replies["GET", "/v1/kernels/a"] = kind("it did not work", hint="try again")
    shown = ctl("info", "a")
    assert (shown.code, shown.out) == (kind.exit_code, "")
    assert shown.err == "kconnd-ctl: it did not work\n  try again\n"


def test_an_error_is_json_on_stdout_too_where_json_was_asked_for(
    ctl: Ctl, daemon: FakeDaemon
) -> None:
    shown = ctl("info", "nosuch", "--json")
    assert shown.code == 4
    assert shown.json()["error"]["code"] == "no-such-kernel"
    assert shown.err.startswith("kconnd-ctl: there is no kernel nosuch\n")
    assert daemon.asked() == [("GET", "/v1/kernels/nosuch")]


def test_without_a_daemon_look_ups_say_so_and_start_none(ctl: Ctl, folder: Path) -> None:
    for arguments in (["list"], ["info", "a"], ["logs", "a"], ["stop", "a"], ["health"]):
        shown = ctl(*arguments)
        assert shown.code == 6
        assert "no kconnd daemon answers" in shown.err
        assert "kconnd-ctl start NAME" in shown.err
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("verb", [["list"], ["start", "a"]])
def test_a_path_too_long_for_a_socket_is_named_with_the_way_out(
    ctl: Ctl, folder: Path, verb: list[str]
) -> None:
    path = folder / ("x" * 100)
    shown = ctl(*verb, "--socket", str(path))
    assert shown.code == 2
    assert f"{path} is too long a path for a Unix socket: {len(str(path))} bytes" in shown.err
    assert "name a shorter one with --socket or KCONND_SOCKET" in shown.err


@pytest.mark.parametrize("place", ["before", "after", "between"])
def test_the_socket_can_be_named_before_and_after_the_verb(
    place: str, ctl: Ctl, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KCONND_SOCKET", "/nowhere")
    daemon.add("a")
    daemon.add("b")
    named = ["--socket", str(daemon.path)]
    arguments = {
        "before": [*named, "info", "a", "b"],
        "after": ["info", "a", "b", *named],
        "between": ["info", "a", *named, "b"],
    }
    assert ctl(*arguments[place]).code == 0
    assert len(daemon.requests) == 2


JSON_VERBS = [
    ["list"],
    ["info", "a"],
    ["info", "a", "b"],
    ["info", "*"],
    ["start", "a", "b"],
    ["start", "a", "nosuch"],
    ["stop", "a"],
    ["stop", "--all", "--yes"],
    ["stop", "c*"],
    ["restart", "a", "--new-key"],
    ["interrupt", "a"],
    ["signal", "a", "-s", "USR1"],
    ["wait", "a", "--timeout", "1s"],
    ["why", "a"],
    ["why", "a", "b"],
    ["reload"],
    ["profiles"],
    ["health"],
    ["connection", "a"],
    ["console", "a"],
    ["info", "nosuch"],
    ["stop", "*"],
    ["frobnicate"],
    ["info", "a", "--frobnicate"],
]


@pytest.mark.parametrize("arguments", JSON_VERBS, ids=" ".join)
def test_with_json_stdout_is_one_json_document(
    arguments: list[str], ctl: Ctl, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Path(os.devnull).open(encoding="ascii") as no_terminal:
        monkeypatch.setattr(sys, "stdin", no_terminal)
        fill(daemon)
        ctl(*arguments, "--json").json()


def fill(daemon: FakeDaemon) -> None:
    for name in ("a", "b"):
        daemon.add(name)
        daemon.replies["GET", f"/v1/kernels/{name}/why"] = {"name": name, "decisions": []}
    daemon.add("c", **STOPPED)
    nothing: dict[str, Any] = {word: [] for word in ("added", "changed", "removed", "faults")}
    daemon.replies["POST", "/v1/reload"] = {**nothing, "unchanged": 2}
    daemon.replies["GET", "/v1/profiles"] = {"profiles": [], "faults": []}


def test_the_key_is_in_connection_and_nowhere_else(ctl: Ctl, daemon: FakeDaemon) -> None:
    daemon.add("a")
    assert "c0ffee" in ctl("connection", "a").out
    for arguments in (["info", "a"], ["info", "a", "--json"], ["list"], ["start", "a"]):
        assert "c0ffee" not in ctl(*arguments).out


# --- as a process of its own

LIGHT_VERBS = (
    *("main", "grammar", "command_line", "batch", "render"),
    *("query_verbs", "kernel_info", "kernel_list"),
)
LIGHT = {
    *("__future__", "gc", "_socket", "_json"),  # all that comes with Python
    "_datetime",  # for the time in a reply
    *("kconnd", "kconnd.errors", "kconnd.core", "kconnd.core.paths", "kconnd.client"),
    *("kconnd.client.http_reply", "kconnd.client.unix_connection"),
    *("kconnd.core.protocol", "kconnd.core.protocol.request_head", "kconnd.private_tmp"),
    *(
        "kconnd.cli",
        *(f"kconnd.cli.{one}" for one in LIGHT_VERBS),
    ),
}
MODULES = """
import sys
before = set(sys.modules)
{}
print(*set(sys.modules) - before, file=sys.stderr)
"""
LOOK_UP = "from kconnd.cli.main import main; main(sys.argv[1:])"


def modules_of(code: str, *arguments: str, **env: str) -> set[str]:
    """Run code as a process of its own; give what it imports."""
    command = [sys.executable, "-c", MODULES.format(code), *arguments]
    run = subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=ROOT, env=os.environ | env
    )
    return set(run.stderr.splitlines()[-1].split())


@pytest.mark.parametrize("verb", [["info", "a"], ["list", "a"], ["why", "a"], ["health"]])
def test_a_look_up_imports_next_to_nothing(verb: list[str], daemon: FakeDaemon) -> None:
    """Its time is a promise; what it imports decides it, and can be tested without a clock."""
    fill(daemon)
    loaded = modules_of(LOOK_UP, *verb, "--socket", str(daemon.path))
    assert daemon.requests
    assert loaded <= LIGHT


def test_a_look_up_imports_no_more_to_find_the_daemon(folder: Path) -> None:
    (folder / "kconnd").mkdir()
    with FakeDaemon(folder / "kconnd" / "kconnd.sock") as daemon:
        daemon.add("a")
        env = {"KCONND_SOCKET": "", "XDG_RUNTIME_DIR": str(folder)}
        assert modules_of(LOOK_UP, "info", "a", **env) <= LIGHT
        assert daemon.requests or has_front_door()


def test_a_look_up_for_programs_imports_json_and_no_more(daemon: FakeDaemon) -> None:
    daemon.add("a")
    loaded = modules_of(LOOK_UP, "info", "a", "--json", "--socket", str(daemon.path))
    assert loaded <= LIGHT | modules_of("import json")


def test_a_closed_pipe_ends_it_quietly(daemon: FakeDaemon) -> None:
    line = json.dumps({"text": "x" * 1000 + "\n"}).encode() + b"\n"
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    daemon.replies["GET", "/v1/kernels/a/logs"] = Raw((head, *[chunk(line)] * 2000))
    arguments = ("logs", "-f", "a", "--socket", str(daemon.path))
    with ctl_process(*arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_a_pipe_closed_before_a_short_answer_is_no_error_either(daemon: FakeDaemon) -> None:
    daemon.add("a")
    reader, writer = os.pipe()
    os.close(reader)
    with ctl_process(
        "list", "--socket", str(daemon.path), stdout=writer, stderr=subprocess.PIPE
    ) as process:
        os.close(writer)
        assert process.stderr
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_a_full_disk_is_an_error_that_is_told(daemon: FakeDaemon) -> None:
    daemon.add("a")
    with Path("/dev/full").open("wb") as full:
        arguments = ("list", "--socket", str(daemon.path))
        process = ctl_process(*arguments, stdout=full, stderr=subprocess.PIPE)
    _, told = process.communicate()
    assert process.returncode == 1
    assert told == b"kconnd-ctl: writing to stdout: No space left on device\n"


@pytest.mark.parametrize("names", [["a"], ["a", "b"]], ids=["one", "several"])
def test_ctrl_c_ends_it_at_once_with_130(names: list[str], daemon: FakeDaemon) -> None:
    """Several are followed by threads of their own, which must not keep it alive."""
    let_go: list[bool] = []

    def silent(_request: object) -> Any:
        wait_for(lambda: let_go, "the end of the test")
        return Stream(())

    for name in names:
        daemon.replies["GET", f"/v1/kernels/{name}/logs"] = silent
    arguments = ("logs", "-f", *names, "--socket", str(daemon.path))
    with ctl_process(*arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            wait_for(lambda: len(daemon.requests) == len(names), "the requests")
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=20)
        finally:
            let_go.append(True)
    assert (process.returncode, out, err) == (130, b"", b"")
