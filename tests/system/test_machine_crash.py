"""A crash of the machine, on a real file system: what a record has lost afterwards.

The file system is made in a file and mounted, and is then shut down like by a loss of power: its
journal is written and all else that was not on disk is gone (``EXT4_IOC_SHUTDOWN``).
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

# Runs in a mount namespace of its own, so the mount ends with it. The store's queue never flushes:
# the crash comes before its delay is over.
CRASH = """
import fcntl, os, struct, subprocess, sys
from pathlib import Path
from kconnd.core.kernel.lifecycle import Lifecycle
from kconnd.core.kernel.record import KernelRecord, Origin
from kconnd.system.files import private, writeback
from kconnd.system.store import Store

EXT4_IOC_SHUTDOWN, FLUSH_JOURNAL = 0x8004587D, 1
folder, options, keeps = Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "keeps"
image, disk, origin = folder / "image", folder / "disk", Origin("m", "host", "boot")
disk.mkdir()
mount = ["mount", "-o", f"loop,{options}", str(image), str(disk)]
image.write_bytes(b"")
os.truncate(image, 16 << 20)
subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
subprocess.run(mount, check=True)

first = Store(disk / "state", origin)
first.save(KernelRecord("lab", Lifecycle(generation=1)))
first.close()
os.sync()
writeback.WRITE_DELAY_S = 3600
if not keeps:
    private._link_previous = lambda path: None
second = Store(disk / "state", origin, lambda path: None)
for generation in (2, 3):
    second.save(KernelRecord("lab", Lifecycle(generation=generation)))

descriptor = os.open(disk, os.O_RDONLY)
fcntl.ioctl(descriptor, EXT4_IOC_SHUTDOWN, struct.pack("I", FLUSH_JOURNAL))
os.close(descriptor)
subprocess.run(["umount", str(disk)], check=True)
subprocess.run(mount, check=True)
try:
    print(Store(disk / "state", origin).read("lab").lifecycle.generation, flush=True)
except Exception as error:
    print(type(error).__name__, flush=True)
os._exit(0)
"""


def can_mount() -> bool:
    tools = ("mkfs.ext4", "mount", "unshare")
    if os.geteuid() != 0 or not all(map(shutil.which, tools)):
        return False
    probe = ["unshare", "-m", "losetup", "--find"]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


def after_crash(folder: Path, options: str, keeps: str) -> str:
    command = ["unshare", "-m", sys.executable, "-c", CRASH, str(folder), options, keeps]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.root
@pytest.mark.skipif(not can_mount(), reason="needs root, mkfs.ext4 and a free loop device")
@pytest.mark.parametrize(
    ("options", "keeps", "outcome"),
    [
        # As XFS does, this file system replaces a file before its content is on disk.
        ("noauto_da_alloc", "keeps", "1"),
        ("noauto_da_alloc", "loses", "StateFileError"),
        # ext4 by default writes the content of a file that replaces another first.
        ("auto_da_alloc", "loses", "3"),
    ],
)
def test_a_crash_of_the_machine_loses_a_record_unless_its_previous_version_is_kept(
    tmp_path: Path, options: str, keeps: str, outcome: str
) -> None:
    assert after_crash(tmp_path, options, keeps) == outcome
