"""Which process on record counts as found here."""

import os
from dataclasses import replace

from kconnd.core.kernel.record import Origin
from kconnd.daemon.kernel.claims import _is_found
from kconnd.system.files.kernel_lock import Holder
from kconnd.system.process.processes import ProcessId, read_stat

HERE = Origin("m", "here", "b1", "pid:[1]")
ME = ProcessId(os.getpid(), read_stat(os.getpid())[2])
NOBODY = ProcessId(ME.pid, ME.started + 1)


def test_a_process_is_found_by_pid_start_time_boot_and_namespace() -> None:
    holder = Holder(HERE, ME, NOBODY)
    assert _is_found(holder, None, HERE)
    assert _is_found(Holder(HERE, NOBODY, ME), None, HERE), "its shim is dead"
    assert not _is_found(Holder(HERE, NOBODY, NOBODY), None, HERE)
    for origin in (replace(HERE, boot_id="b0"), replace(HERE, pid_namespace="pid:[2]")):
        assert not _is_found(replace(holder, origin=origin), None, HERE)
    assert _is_found(replace(holder, origin=replace(HERE, pid_namespace="")), None, HERE)


def test_another_host_s_name_needs_more_than_a_pid() -> None:
    far = Holder(replace(HERE, host="far"), ME, NOBODY)
    assert _is_found(far, None, HERE), "this process has our host's name: it was changed"
    old = Holder(replace(HERE, host=""), ME, NOBODY)
    assert _is_found(old, None, HERE), "an older version did not say"
