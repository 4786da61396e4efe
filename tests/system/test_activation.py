"""The line of setup that is missing, by the files that exist."""

from pathlib import Path

from kconnd.core.launch.plan import User
from kconnd.system.activation import find_activation, hint_about_setup
from kconnd.system.hung_calls import PathSteps, StuckError, ignore_step


def user(home: Path) -> User:
    return User("ada", 1000, str(home), "/bin/bash")


def test_the_first_file_that_exists_is_suggested(tmp_path: Path) -> None:
    for root in ("anaconda3", "miniconda3"):
        (tmp_path / root / "etc/profile.d").mkdir(parents=True)
        (tmp_path / root / "etc/profile.d/conda.sh").touch()
    line = f"source {tmp_path}/miniconda3/etc/profile.d/conda.sh"
    assert find_activation("conda", user(tmp_path), ignore_step) == line


async def test_the_output_of_a_kernel_leads_to_the_line(tmp_path: Path) -> None:
    program = tmp_path / ".local/bin/micromamba"
    program.parent.mkdir(parents=True)
    program.touch()
    paths = PathSteps()
    hint = await hint_about_setup(paths, user(tmp_path), "micromamba: command not found")
    assert hint.endswith(f'eval "$({program} shell hook -s posix)"')
    assert await hint_about_setup(paths, user(tmp_path), "it works") == ""


async def test_a_home_that_hangs_gives_a_hint_without_a_line(tmp_path: Path) -> None:
    class Stuck(PathSteps):
        async def run(self, work: object) -> str:  # type: ignore[override]  # it always fails
            raise StuckError(f"running {work}")

    hint = await hint_about_setup(Stuck(), user(tmp_path), "conda: command not found")
    assert "put a line into 'setup' first that makes it known" in hint
