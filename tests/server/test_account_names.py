"""Accounts and groups as directory services have them: blanks, quotes, digits, any language.

useradd refuses these names, so the test writes the files of the user database.
"""

import shlex
from collections.abc import Iterator

import pytest

from tests.server.box import Box

pytestmark = [pytest.mark.root, pytest.mark.timeout(600)]
FIRST_UID = 6001
NAMES = (
    r"EXAMPLE\jane doe",
    "o'brien",
    "jürgen",
    "1abc",
    "20231234",  # a number, which is nobody's uid
    "lab$",
    "jane@uni.example",
    "UPPER.Case",
    "x" * 40,
)
JANE, OBRIEN, JURGEN, DIGIT, NUMBER = NAMES[:5]
GROUP = "domain users@example.com"
UIDS = {name: uid for uid, name in enumerate(NAMES, FIRST_UID)}
SHARED = f"""\
kernel: python3
user: '{JANE}'
access:
  connect: ["{OBRIEN}"]
  manage: ['@{GROUP}']
"""


@pytest.fixture
def accounts(box: Box) -> Iterator[Box]:
    """Give a machine with these accounts; jürgen is a member of the group."""
    passwd = "".join(f"{name}:x:{uid}:100::/home/{uid}:/bin/bash\n" for name, uid in UIDS.items())
    shadow = "".join(f"{name}:*:19000:0:99999:7:::\n" for name in NAMES)
    for path, text in (
        ("passwd", passwd),
        ("shadow", shadow),
        ("group", f"{GROUP}:x:6100:{JURGEN}\n"),
    ):
        box.run(
            f"cp -p /etc/{path} /etc/{path}.before; printf %s {shlex.quote(text)} >>/etc/{path}"
        )
    for uid in UIDS.values():
        box.run(f"install -d -o {uid} -g 100 -m 700 /home/{uid}")
    box.write("/etc/kconnd/configs/shared.yaml", SHARED)
    box.run("systemctl reload kconnd.service")
    yield box
    box.run("rm /etc/kconnd/configs/shared.yaml; systemctl reload kconnd.service")
    units = " ".join(
        f"kconnd@{uid}.socket kconnd@{uid}.service 'kconnd-kernel-{uid}-*'" for uid in UIDS.values()
    )
    box.run(f"systemctl stop {units}")
    for path in ("passwd", "shadow", "group"):
        box.run(f"mv /etc/{path}.before /etc/{path}")


def test_accounts_of_any_name_have_kernels_and_share_them(accounts: Box) -> None:
    box = accounts
    shown = "import os, getpass; print(os.environ['USER'], getpass.getuser(), sep='|')"
    for name, uid in UIDS.items():
        run = f"kconnd-ctl run python3 -c {shlex.quote(shown)}"  # it starts the kernel
        assert box.run(run, name).out == f"{name}|{name}\n"
        # root names the owner of any kernel.
        info = box.ctl(f"info {shlex.quote(f'{name}/python3')}", "root")
        assert (info["uid"], info["owner"], info["state"]) == (uid, name, "running")
        assert info["connection_file"].startswith(f"/run/kconnd/u/{uid}/")
    box.run(f"systemctl is-active kconnd-kernel-{FIRST_UID}-python3-1.service")
    _check_sharing(box)
    _check_number(box)


def _check_sharing(box: Box) -> None:
    """Check the rights in a profile of the machine, which names users and a group."""
    kernel = shlex.quote(f"{JANE}/shared")
    box.run("kconnd-ctl start shared", JANE)
    run = f"kconnd-ctl run {kernel} -c 'print(6 * 7)'"
    assert box.run(run, OBRIEN).out == "42\n"
    assert [row["name"] for row in box.ctl("list", OBRIEN)["shared"]] == [f"{JANE}/shared"]
    refused = box.try_(f"kconnd-ctl restart {kernel}", OBRIEN)
    assert (refused.code, "may not" in refused.err) == (5, True), refused
    box.run(f"kconnd-ctl restart {kernel}", JURGEN)
    assert box.run(run, JURGEN).out == "42\n"
    assert box.try_(run, DIGIT).code == 5
    box.run(f"kconnd-ctl kernelspec install {kernel}", OBRIEN)
    spec = f"/home/{UIDS[OBRIEN]}/.local/share/jupyter/kernels/kconnd-example-jane-doe-shared"
    assert JANE in box.run(f"cat {spec}/kernel.json").out.replace("\\\\", "\\")
    why = box.run("kconnd-ctl why shared", JANE).out
    assert JURGEN in why
    said = box.run(f"journalctl -o cat --no-pager KCONND_UID={UIDS[JURGEN]}").out
    assert f"uid {UIDS[JURGEN]}, pid " in said
    assert "requested restart shared: done" in said


def _check_number(box: Box) -> None:
    """Check that a name of digits is the name of its account, as for chown."""
    box.run(f"useradd -m -u {NUMBER} digits && su - digits -c 'kconnd-ctl start python3'")
    try:
        assert box.ctl(f"info {NUMBER}/python3", "root")["uid"] == UIDS[NUMBER]
        assert box.ctl("info digits/python3", "root")["uid"] == int(NUMBER)
    finally:
        units = f"kconnd@{NUMBER}.socket kconnd@{NUMBER}.service 'kconnd-kernel-{NUMBER}-*'"
        box.run(f"systemctl stop {units}; userdel -rf digits 2>/dev/null")
