"""Jupyter finds published kernels by name, and as external kernels of a server."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from kconnd.daemon.tasks.jupyter_publishing import Published
from tests.conftest import wait_for
from tests.end_to_end.daemon import Daemon, run
from tests.jupyter.conftest import FORK

PUBLISHED = f"{FORK}publish: jupyter\n"


def external(daemon: Daemon) -> list[Path]:
    return sorted((daemon.jupyter / "external_kernels").glob("*"))


def test_a_published_kernel_appears_whole_and_goes_with_the_kernel(daemon: Daemon) -> None:
    daemon.profile("seen", PUBLISHED)
    daemon.ask("POST", "/v1/reload")
    daemon.post("seen", "start")
    daemon.post("lab", "start")
    wait_for(lambda: external(daemon), "it to be published")
    (path,) = external(daemon)
    content = json.loads(path.read_bytes())
    assert path.stat().st_mode & 0o777 == 0o600
    assert (content["kernel_name"], content["kconnd"]) == ("python3", "seen")
    assert run(str(path), "print(1)") == "1\n"
    daemon.post("seen", "restart")
    assert external(daemon) == [path], "the same connection, and so the same file"
    daemon.ask("POST", "/v1/kernels/seen/restart", {"new_key": True})
    wait_for(lambda: external(daemon) not in ([], [path]), "a new name")
    (renewed,) = external(daemon)
    assert json.loads(renewed.read_bytes())["key"] != content["key"]
    daemon.post("seen", "stop")
    wait_for(lambda: not external(daemon), "it to be gone")


def test_it_stays_while_no_daemon_runs_and_is_tidied_by_the_next(daemon: Daemon) -> None:
    daemon.profile("seen", f"{PUBLISHED}restart: {{policy: no}}\n")
    daemon.ask("POST", "/v1/reload")
    daemon.post("seen", "start")
    wait_for(lambda: external(daemon), "it to be published")
    pid, before = daemon.info("seen")["pid"], external(daemon)
    daemon.kill()
    assert external(daemon) == before
    assert run(str(before[0]), "print(1)") == "1\n"
    os.kill(pid, signal.SIGKILL)
    daemon.start()
    wait_for(lambda: not external(daemon), "it to be gone")


def test_a_daemon_that_takes_its_kernels_along_leaves_nothing_shown(daemon: Daemon) -> None:
    daemon.profile("seen", PUBLISHED)
    daemon.end()
    daemon.start("--stop-kernels-on-exit")
    daemon.post("seen", "start")
    wait_for(lambda: external(daemon), "it to be published")
    daemon.end()
    assert external(daemon) == []
    assert not (daemon.jupyter / "kernel-seen.json").is_symlink()


def test_a_removed_profile_leaves_its_live_kernel_published(daemon: Daemon) -> None:
    daemon.profile("seen", PUBLISHED)
    daemon.ask("POST", "/v1/reload")
    daemon.post("seen", "start")
    wait_for(lambda: external(daemon), "it to be published")
    before = external(daemon)
    (daemon.configs / "seen.yaml").unlink()
    daemon.ask("POST", "/v1/reload")
    daemon.post("lab", "start")  # after which the next look has been, too
    wait_for((daemon.jupyter / "kernel-lab.json").is_symlink, "the next look")
    assert external(daemon) == before
    daemon.post("seen", "stop")
    wait_for(lambda: not external(daemon), "it to be gone")


def test_a_link_that_another_machine_made_again_is_left(tmp_path: Path) -> None:
    """In a home that machines share, where each has a kernel of that name at the same path."""
    folder, runtime_dir = tmp_path / "jupyter", tmp_path / "r"
    target = str(runtime_dir / "kernel-lab.json")
    ours = Published(folder, runtime_dir, "one")
    ours.show([], {"lab": target})
    ours.show([], {})
    link = folder / "kernel-lab.json"
    assert not link.is_symlink()
    Published(folder, runtime_dir, "two").show([], {"lab": target})
    ours.show([], {})
    assert link.is_symlink()


def test_of_many_kernels_only_those_that_come_and_go_are_looked_at(tmp_path: Path) -> None:
    folder, runtime_dir = tmp_path / "jupyter", tmp_path / "r"
    links = {name: str(runtime_dir / f"kernel-{name}.json") for name in ("one", "two", "three")}
    ours = Published(folder, runtime_dir, "machine")
    ours.show([], {"one": links["one"], "two": links["two"]}, rescan=False)
    (folder / "kernel-two.json").unlink()

    def there() -> set[str]:
        return {
            path.name.removeprefix("kernel-").removesuffix(".json") for path in folder.iterdir()
        }

    ours.show([], links, rescan=False)
    assert there() == {"one", "three"}, "nobody has looked for the one that was there"
    ours.show([], links)
    assert there() == {"one", "two", "three"}
    (folder / "kernel-three.json").unlink()
    (folder / "kernel-three.json").write_text("{}")
    ours.show([], {"one": links["one"]}, rescan=False)
    assert there() == {"one", "three"}, "one is somebody else's by now"


def test_what_could_not_be_shown_is_tried_again_and_removed(tmp_path: Path) -> None:
    folder, runtime_dir = tmp_path / "jupyter", tmp_path / "r"
    links = {name: str(runtime_dir / f"kernel-{name}.json") for name in ("a", "b", "c" * 250)}
    ours = Published(folder, runtime_dir, "machine")
    ours.show([], {"a": links["a"]})
    ours.show([], links, rescan=False)  # the last one's name is too long
    ours.show([], {"a": links["a"], "b": links["b"]}, rescan=False)
    assert {path.name for path in folder.iterdir()} == {"kernel-a.json", "kernel-b.json"}
    ours.show([], links, rescan=False)
    ours.show([], {}, rescan=False)
    assert list(folder.iterdir()) == []


def test_a_kernel_is_found_by_name_without_a_path(
    daemon: Daemon, jupyter: dict[str, str], tmp_path: Path
) -> None:
    daemon.post("lab", "start")
    link = daemon.jupyter / "kernel-lab.json"
    wait_for(link.exists, "the link")
    script = tmp_path / "script.py"
    script.write_text("kept = 6 * 7\nprint(kept)\n")
    words = ["run", "--existing", "kernel-lab.json", str(script)]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "jupyter_client.runapp", *words[1:]],
        env=jupyter,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "42" in done.stdout, done.stderr
    console = subprocess.run(
        [
            sys.executable,
            "-m",
            "jupyter_console",
            "--existing",
            "kernel-lab.json",
            "--simple-prompt",
        ],
        env={**jupyter, "PYTHONWARNINGS": "ignore"},
        input="print('from the console', kept)\nexit(keep_kernel=True)\n",
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "from the console 42" in console.stdout, console.stderr
    assert daemon.info("lab")["state"] == "running"
    daemon.post("lab", "stop")
    wait_for(lambda: not link.is_symlink(), "the link to be gone")


def test_what_is_not_ours_is_not_touched(daemon: Daemon) -> None:
    daemon.jupyter.mkdir(exist_ok=True)
    other = daemon.jupyter / "kernel-lab.json"
    wait_for(lambda: not other.is_symlink(), "no link to be there")
    other.write_text("{}")
    foreign = daemon.jupyter / "external_kernels" / "mine.json"
    foreign.parent.mkdir(exist_ok=True)
    foreign.write_text("{}")
    daemon.profile("lab", PUBLISHED)
    daemon.ask("POST", "/v1/reload")
    daemon.post("lab", "start")
    wait_for(lambda: len(external(daemon)) == 2, "it to be published")
    assert other.read_text() == "{}"
    daemon.post("lab", "stop")
    wait_for(lambda: external(daemon) == [foreign], "ours alone to be gone")
    assert other.read_text() == "{}"
