"""What the command of a kernel's container shows the kernel, and where its connection file goes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kconnd.core.launch.containers import (
    Container,
    Mount,
    Place,
    UserFolders,
    find_place,
    read_container,
)

HERE = UserFolders("/home/ada", "/home/ada/work")
RUNTIME, STATE = "/run/user/7/kconnd", "/home/ada/.local/state/kconnd/m"
FOLDERS = (RUNTIME, STATE)
KERNEL = "python -m ipykernel_launcher -f {connection_file}"
OWN_NETWORK = "its podman gives it a network of its own"


def place(command: str, wanted: str = "") -> Place:
    container = read_container(tuple(f"{command} {KERNEL}".split()), HERE)
    assert container is not None, command
    return find_place(container, wanted, FOLDERS)


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        # The kernel sees the runtime folder.
        ("bwrap --dev-bind / /", Place()),
        ("bwrap --ro-bind / / --bind /run /run", Place()),
        ("docker run --network=host -v /run/user/7:/run/user/7 image", Place()),
        ("firejail", Place()),
        ("env A=1 firejail --private-tmp", Place()),
        ("bwrap --dev-bind / / --unshare-net", Place(transport="ipc")),
        # It sees it at another path, or cannot write there.
        ("bwrap --bind / /host", Place(RUNTIME, f"/host{RUNTIME}")),
        ("bwrap --ro-bind / / --tmpfs /tmp", Place(transport="tcp")),
        # It sees the state folder, or another one.
        ("apptainer exec -B /data image.sif", Place(STATE, STATE)),
        ("/opt/bin/singularity -s exec image.sif bash -c", Place(STATE, STATE)),
        ("apptainer exec --net image.sif", Place(STATE, STATE, "ipc")),
        (
            "apptainer exec --no-home -B /data/me:/d image.sif",
            Place("/home/ada/work", "/home/ada/work"),
        ),
        ("bwrap --ro-bind /usr /usr --bind /home/ada/x /x", Place("/home/ada/x", "/x")),
        (
            "bwrap --bind / / --tmpfs /run --tmpfs /home --bind /data/me /data/me",
            Place("/data/me", "/data/me"),
        ),
        ("docker run --rm -v /home/ada/x:/x:rw image", Place("/home/ada/x", "/x", "ipc")),
        (
            "podman run --mount type=bind,src=/home/ada/x,dst=/x --net host image",
            Place("/home/ada/x", "/x"),
        ),
        ("enroot start -m /home/ada/x:/x image", Place("/home/ada/x", "/x")),
        ("udocker run --bindhome image", Place(STATE, STATE)),
        ("systemd-nspawn -D /srv/root --bind=/home/ada/x", Place("/home/ada/x", "/home/ada/x")),
        ("chroot /srv/me/root", Place("/srv/me/root", "/")),
        ("sudo chroot /run", Place(RUNTIME, "/user/7/kconnd")),
        # The command mounts the connection file.
        ("docker run --network=host -v {connection_file}:/c.json image", Place(transport="tcp")),
        (
            "podman run -v {connection_file}:/c.json image",
            Place(transport="tcp", problem="podman gives it a network of its own"),
        ),
        # There is none.
        (
            "docker run -v name:/data image",
            Place(problem="its docker command names no folder that it may write to"),
        ),
        (
            "apptainer exec --containall image.sif",
            Place(problem="its apptainer command names no folder that it may write to"),
        ),
        (
            "docker run -v /home/ada/x:/x:ro image",
            Place(problem="its docker command names no folder that it may write to"),
        ),
    ],
)
def test_a_place_follows_from_the_command(command: str, expected: Place) -> None:
    assert place(command) == expected


def test_a_program_that_is_not_known_sees_everything() -> None:
    assert read_container(("python", "-m", "ipykernel_launcher"), HERE) is None
    assert read_container((), HERE) is None
    assert find_place(None, "", FOLDERS) == Place()


@pytest.mark.parametrize(
    ("command", "wanted", "expected"),
    [
        ("docker run image", "/x:/y", Place("/x", "/y", "ipc")),
        ("docker run --net host -v /x:/y image", "/x", Place("/x", "/y")),
        ("docker run --net host image", "/x", Place("/x", "/x")),
    ],
)
def test_the_profiles_folder_comes_first(command: str, wanted: str, expected: Place) -> None:
    assert place(command, wanted) == expected
    assert find_place(None, wanted, FOLDERS) == Place(*(wanted + ":" + wanted).split(":")[:2])


FOLDER = st.lists(st.sampled_from("abc"), max_size=3).map(lambda names: "/" + "/".join(names))
MOUNTS = st.lists(st.builds(Mount, FOLDER | st.just(""), FOLDER, st.booleans()), max_size=5)


@given(MOUNTS, FOLDER)
def test_a_path_is_seen_through_the_last_mount_above_it(mounts: list[Mount], path: str) -> None:
    """Compare with a file system that is built mount by mount."""
    view = Container("x", tuple(mounts)).find(path)
    if view is None:
        return
    tree: dict[str, Mount] = {}
    for mount in mounts:  # a mount hides what was at or below its target
        below = mount.target.rstrip("/") + "/"
        tree = {at: m for at, m in tree.items() if at != mount.target and not at.startswith(below)}
        tree[mount.target] = mount
    above = [at for at in tree if view.target == at or view.target.startswith(at.rstrip("/") + "/")]
    mount = tree[max(above, key=len)]
    assert mount.source
    rest = view.target[len(mount.target.rstrip("/")) :]
    assert (mount.source.rstrip("/") + rest.rstrip("/") or "/") == path
    assert view.is_writable == mount.is_writable
