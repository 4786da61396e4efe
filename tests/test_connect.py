"""The connection API, side by side with ipykernel's and jupyter_client's own."""

import json
import os
import socket
import stat
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ipykernel.connect
import jupyter_client.connect
import pytest

from kconnd import connect
from kconnd.connection_search import kernel_and_socket
from kconnd.core import paths
from kconnd.core.names import derived_name
from kconnd.qtconsole_argv import option_words
from tests.cli.fake_daemon import FakeDaemon
from tests.connection_folders import connection_folders

PORTS: dict[str, Any] = {
    "shell_port": 31001,
    "iopub_port": 31002,
    "stdin_port": 31003,
    "control_port": 31004,
    "hb_port": 31005,
}


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with connection_folders(monkeypatch) as folder:
        yield folder


def read(path: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(Path(path).read_bytes())
    return content


def test_a_file_is_written_private_whole_and_without_side_effects(home: Path) -> None:
    before = home.stat().st_mode
    victim = home / "victim"
    victim.write_text("dear")
    (home / "k.json").symlink_to(victim)
    path = connect.write_connection_file(home / "k.json", **PORTS, key=b"k", kernel_name="n")
    assert path == str(home / "k.json")
    assert victim.read_text() == "dear"
    assert stat.S_IMODE(os.lstat(path).st_mode) == 0o600
    assert home.stat().st_mode == before
    assert read(path) == PORTS | {
        "ip": "127.0.0.1",
        "key": "k",
        "transport": "tcp",
        "signature_scheme": "hmac-sha256",
        "kernel_name": "n",
    }


def test_without_a_name_jupyter_finds_it() -> None:
    path = connect.write_connection_file(**PORTS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert jupyter_client.connect.find_connection_file(Path(path).name) == path


def test_an_empty_key_is_a_fresh_one_where_jupyter_signs_nothing(home: Path) -> None:
    keys = {read(connect.write_connection_file(home / "k", **PORTS))["key"] for _ in range(3)}
    assert len(keys) == 3
    assert all(len(key) == 44 for key in keys)
    theirs, _ = jupyter_client.connect.write_connection_file(str(home / "j"), **PORTS)
    assert read(theirs)["key"] == ""


def test_two_callers_at_once_never_get_the_same_port(home: Path) -> None:
    paths: list[str] = []

    def write(number: int) -> None:
        paths.extend(connect.write_connection_file(home / f"{number}-{n}") for n in range(5))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ports = [read(path)[name] for path in paths for name in PORTS]
    assert len(set(ports)) == len(ports) == 200
    for path in paths:
        Path(path).unlink()
    connect.write_connection_file(home / "last")
    assert len(json.loads((home / "kconnd/ports.json").read_bytes())) == 1  # the files' are gone


def test_given_ports_are_kept_and_only_the_others_chosen(home: Path) -> None:
    found = read(connect.write_connection_file(home / "k", shell_port=31001, hb_port=31002))
    assert (found["shell_port"], found["hb_port"]) == (31001, 31002)
    assert len({found[name] for name in PORTS}) == 5
    assert min(found[name] for name in PORTS) >= 20000


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"shell_port": 70000}, "shell_port"),
        ({"hb_port": -1}, "hb_port"),
        ({"hb_port": True}, "hb_port"),
        ({"shell_port": 5000, "control_port": 5000}, "control_port: 5000 is also the shell_port"),
        ({"transport": "udp"}, "transport"),
        ({"signature_scheme": "hmac-rot13"}, "signature_scheme"),
        ({"signature_scheme": "sha256"}, "signature_scheme"),
        ({"signature_scheme": "hmac-shake_128"}, "signature_scheme"),
        ({"key": b"\xff\xfe"}, "key"),
        ({"ip": ""}, "ip"),
        ({"ip": "/x" * 60, "transport": "ipc"}, "ip"),
        ({"curve_publickey": "short", "curve_secretkey": "short"}, "curve_publickey"),
        ({"curve_publickey": "x" * 40}, "curve_secretkey"),
    ],
)
def test_bad_arguments_are_refused_by_name(
    home: Path, arguments: dict[str, Any], named: str
) -> None:
    with pytest.raises(ValueError, match=named):
        connect.write_connection_file(home / "k.json", **arguments)
    assert not (home / "k.json").exists()


def test_a_path_too_long_for_sockets_names_the_file(home: Path) -> None:
    with pytest.raises(ValueError, match=r"fname: .* is longer than the 107 bytes.*shorter"):
        connect.write_connection_file(home / ("x" * 100), transport="ipc")


@pytest.mark.parametrize("transport", ["tcp", "ipc"])
def test_what_jupyter_writes_is_read_here(home: Path, transport: str) -> None:
    ip = str(home / "s") if transport == "ipc" else "127.0.0.1"
    path, written = jupyter_client.connect.write_connection_file(
        str(home / "j.json"), ip=ip, key=b"abc", transport=transport, kernel_name="python3"
    )
    found = connect.get_connection_info(path)
    assert (found["key"], found["kernel_name"]) == ("abc", "python3")
    assert found == {name: written[name] for name in found} | {"key": "abc"}  # type: ignore[literal-required]  # its own fields


def test_outside_a_kernel() -> None:
    assert connect.get_connection_file() is None
    with pytest.raises(RuntimeError, match="not in a kernel"):
        connect.get_connection_info()
    with pytest.raises(RuntimeError, match="not in a kernel"):
        connect.connect_qtconsole()


def test_files_that_are_none(home: Path) -> None:
    bad = home / "bad.json"
    for text in ("{", "{}", '{"shell_port": "1"}'):
        bad.write_text(text)
        with pytest.raises(ValueError, match=f"reading the connection file {bad}"):
            connect.get_connection_info(bad)
    with pytest.raises(OSError, match="there is no connection file /nowhere/x"):
        connect.get_connection_info("/nowhere/x")


def find(wanted: str, **more: Any) -> str:
    with pytest.warns(DeprecationWarning, match="deprecated"):
        return connect.find_connection_file(wanted, **more)


def test_finding_by_name_and_pattern(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "kconnd").mkdir(mode=0o700)
    lab = connect.write_connection_file(home / "kconnd/kernel-lab.json", **PORTS)
    (home / "jupyter").mkdir(mode=0o700)
    other = connect.write_connection_file(home / "jupyter/kernel-123.json", **PORTS)
    os.utime(lab, (1, 1))
    assert find("lab") == find("kernel-lab.json") == find("kernel-l*.json") == lab
    assert find("kernel-*.json") == find("123") == other  # the newest of several
    with pytest.warns(DeprecationWarning, match="profile is ignored|is deprecated") as said:
        assert connect.find_connection_file("lab", profile="x") == lab
    assert len(said) == 2
    with pytest.raises(OSError, match=rf"fits 'nobody'; looked in {home}/kconnd"):
        find("nobody")
    monkeypatch.chdir(home)
    planted = connect.write_connection_file(home / "kernel-cwd.json", **PORTS)
    with pytest.raises(OSError, match="no connection file of yours"):
        find("kernel-cwd.json")
    assert find(planted) == find("./kernel-cwd.json") == planted
    assert connect.get_connection_info("lab")["shell_port"] == 31001


def test_jupyters_name_of_a_kernel_spec_finds_its_kernel(home: Path) -> None:
    (home / "kconnd").mkdir(mode=0o700)
    name = derived_name("c++ [17]")
    path = connect.write_connection_file(home / f"kconnd/kernel-{name}.json", **PORTS)
    assert find("C++ [17]") == find(name) == path
    assert connect.get_connection_info("c++ [17]")["shell_port"] == 31001
    with pytest.raises(OSError, match="no connection file of yours fits"):
        find("c++ [18]")


def test_the_daemon_of_the_socket_variable_is_asked_first(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its files are beside its socket, or where it says."""
    for folder in ("kconnd", "own", "far"):
        (home / folder).mkdir(mode=0o700)
    default = connect.write_connection_file(home / "kconnd/kernel-lab.json", **PORTS)
    own = connect.write_connection_file(home / "own/kernel-lab.json", **PORTS)
    os.utime(own, (1, 1))
    assert find("lab") == default
    monkeypatch.setenv("KCONND_SOCKET", str(home / "own/s"))
    assert find("lab") == own
    monkeypatch.setenv("KCONND_SOCKET", str(home / "s"))
    assert find("lab") == default
    far = connect.write_connection_file(home / "far/kernel-lab.json", **PORTS)
    os.utime(far, (1, 1))
    with FakeDaemon(home / "s") as daemon:
        daemon.replies["GET", "/v1/health"] = {"runtime_dir": str(home / "far")}
        assert find("lab") == far
        with pytest.raises(OSError, match=rf"looked in {home}, {home}/far, {home}/kconnd"):
            find("nobody")


def test_on_a_server_the_daemon_keeps_its_files_elsewhere(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "FRONT_SOCKET", str(home / "front"))
    monkeypatch.setattr(paths, "OWNER_RUNTIME_DIR", str(home / "u"))
    (home / "u" / str(os.geteuid())).mkdir(mode=0o700, parents=True)
    file = home / "u" / str(os.geteuid()) / "kernel-lab.json"
    path = connect.write_connection_file(file, **PORTS)
    with pytest.raises(OSError, match="no connection file of yours"):
        find("lab")
    (home / "front").touch()
    assert find("lab") == path
    assert connect.get_connection_info("lab")["shell_port"] == 31001


def test_an_unknown_transport_is_refused(home: Path) -> None:
    path = Path(connect.write_connection_file(home / "k.json", **PORTS))
    path.write_text(path.read_text().replace('"tcp"', '"inproc"'))
    with pytest.raises(ValueError, match=f"file {path}: transport: 'inproc' is neither 'tcp' nor"):
        connect.get_connection_info(path)


def test_a_console_takes_a_name_and_refuses_a_text_for_its_options() -> None:
    with pytest.raises(OSError, match="no connection file of yours fits 'nobody'"):
        connect.connect_qtconsole(connection_file="nobody")
    with pytest.raises(TypeError, match="argv: '--style=monokai' is one text"):
        connect.connect_qtconsole("--style=monokai")


def test_a_planted_file_is_not_found(home: Path) -> None:
    (home / "kconnd").mkdir(mode=0o700)
    path = Path(connect.write_connection_file(home / "kconnd/kernel-lab.json", **PORTS))
    (home / "kconnd").chmod(0o777)
    with pytest.raises(OSError, match="no connection file of yours"):
        find("lab")
    (home / "kconnd").chmod(0o700)
    path.rename(home / "elsewhere.json")
    path.symlink_to(home / "elsewhere.json")
    with pytest.raises(OSError, match="no connection file of yours"):
        find("lab")


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: to make another user's file")
def test_a_file_of_another_user_is_not_found(home: Path) -> None:
    (home / "kconnd").mkdir(mode=0o700)
    path = connect.write_connection_file(home / "kconnd/kernel-lab.json", **PORTS)
    os.chown(path, 65534, 65534)
    with pytest.raises(OSError, match="no connection file of yours"):
        find("lab")
    assert find(path) == path


def test_a_missing_qtconsole_is_told_before_anything_starts(home: Path) -> None:
    script = (
        "import sys; from importlib.util import find_spec as find; import importlib.util as u\n"
        "u.find_spec = lambda name: None if name in sys.argv[2:] else find(name)\n"
        "from kconnd.qtconsole_argv import qtconsole_command\n"
        "try: qtconsole_command(sys.argv[1], [])\n"
        "except ImportError as error: print(error)\n"
    )
    path = connect.write_connection_file(home / "k", **PORTS)
    for hidden, said in (
        (["qtconsole"], "qtconsole is not installed"),
        (["PySide6", "PyQt6", "PyQt5", "PySide2"], "no Qt binding is installed"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", script, path, *hidden],
            capture_output=True,
            text=True,
            check=True,
        )
        assert said in done.stdout
        assert "pip install" in done.stdout


def test_a_connection_file_names_the_kernel_and_the_socket_of_its_daemon(home: Path) -> None:
    assert kernel_and_socket(str(home / "kernel-lab.json")) == ("", "")
    (home / "live").mkdir()
    assert kernel_and_socket(str(home / "kernel-lab.json")) == ("lab", "")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(home / "kconnd.sock"))
        socket_path = str(home / "kconnd.sock")
        assert kernel_and_socket(str(home / "kernel-lab.json")) == ("lab", socket_path)
        assert kernel_and_socket(str(home / "other.json")) == ("", "")


def test_options_of_the_console() -> None:
    options = {"style": "monokai", "confirm_exit": False, "JupyterWidget.font_size": 14}
    assert list(option_words(options)) == [
        "--style=monokai",
        "--no-confirm-exit",
        "--JupyterWidget.font_size=14",
    ]


def test_every_name_of_the_reference_is_there() -> None:
    for name in connect.__all__:
        assert getattr(connect, name).__doc__
        assert hasattr(ipykernel.connect, name) or hasattr(jupyter_client.connect, name)


def test_where_the_two_differ(home: Path) -> None:
    """The rows of the module's table, measured."""
    theirs = jupyter_client.connect
    result = theirs.write_connection_file(str(home / "j.json"), **PORTS)
    assert isinstance(result, tuple)
    assert home.stat().st_mode & stat.S_ISVTX
    doubled: dict[str, Any] = dict.fromkeys(PORTS, 99999)
    assert theirs.write_connection_file(str(home / "d.json"), **doubled)[1]["hb_port"] == 99999
    script = "import sys, jupyter_client as j; j.write_connection_file(sys.argv[1], ip='::1')"
    ipv6 = subprocess.run(
        [sys.executable, "-c", script, str(home / "6.json")], capture_output=True, check=False
    )
    assert b"gaierror" in ipv6.stderr
    with pytest.raises(RuntimeError):
        ipykernel.connect.get_connection_file()
    with pytest.raises(RuntimeError):
        ipykernel.connect.get_connection_info()
