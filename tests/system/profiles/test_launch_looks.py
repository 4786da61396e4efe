"""Looks at accounts and modules, and the paths that root does not follow."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from kconnd.core.launch.session import Inherited, Umask
from kconnd.core.profile.model import Access, Profile
from kconnd.core.profile.problems import Problem
from kconnd.system.hung_calls import ignore_step
from kconnd.system.kernelspecs import KernelspecIndex
from kconnd.system.machine import own_user
from kconnd.system.profiles.launch_looks import Unseen, find_problems, is_roots_path
from kconnd.system.profiles.review import ReviewContext
from kconnd.system.program_choice import ProgramHints

SHARED = Profile(
    name="lab",
    argv=("/bin/true", "{connection_file}"),
    user="no-such-user",
    access=Access(see=("root", "@no-such-group"), connect=("no-such-member", "@root")),
)


def look(profile: Profile, login_shell: str = "/bin/sh") -> tuple[list[Problem], list[Unseen]]:
    inherited = Inherited("/usr/bin:/bin", "", None, Umask(0o022, ""))
    context = ReviewContext(replace(own_user(), shell=login_shell), KernelspecIndex([]))
    return find_problems(context, profile, ProgramHints(), inherited, ignore_step)


def test_unknown_users_and_groups_are_named() -> None:
    problems, unseen = look(SHARED)
    assert [(problem.path, problem.message) for problem in problems] == [
        (("user",), "there is no user 'no-such-user' on this machine"),
        (("access", "see", 1), "there is no group 'no-such-group' on this machine"),
        (("access", "connect", 0), "there is no user 'no-such-member' on this machine"),
    ]
    assert all(problem.hint for problem in problems)
    assert unseen == []


def test_a_login_shell_that_cannot_run_a_kernel_is_named() -> None:
    keys = {"name": "lab", "argv": ("/bin/true", "{connection_file}"), "shell": "login"}
    profile = Profile.model_validate(keys)
    assert look(profile) == ([], [])
    ((problem,), _) = look(profile, "/usr/sbin/nologin")
    assert problem.path == ("shell",)
    assert problem.message.startswith("running its login shell: the login shell /usr/sbin/nologin")


def test_the_paths_of_another_user_s_profile_are_not_looked_at() -> None:
    other = SHARED.model_copy(update={"user": "daemon", "access": Access(), "cwd": "/no/such"})
    assert look(other) == ([], [])


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to other users")
def test_root_follows_only_paths_that_nobody_else_can_change(tmp_path: Path) -> None:
    own, theirs, shared = (tmp_path / name for name in ("own", "theirs", "shared"))
    for folder in (own, theirs, shared):
        folder.mkdir(mode=0o755)
        (folder / "file").touch()
    os.chown(theirs, 1, 1)
    shared.chmod(0o777)
    (own / "link").symlink_to(theirs / "file")
    (own / "relative").symlink_to("../own/./file")
    (own / "loop").symlink_to("loop")
    followed = [own / "file", own / "relative", own / "missing/below", own / "loop", Path("/tmp")]
    refused = [theirs, theirs / "file", shared / "file", own / "link", own / "../theirs/file"]
    assert [path for path in followed if not is_roots_path(str(path))] == []
    assert [path for path in refused if is_roots_path(str(path))] == []
    profile = Profile(name="lab", argv=("/bin/true", "{connection_file}"), cwd=str(theirs / "no"))
    problems, unseen = look(profile)
    assert problems == []
    assert [(path.key, path.path) for path in unseen] == [("cwd", profile.cwd)]
