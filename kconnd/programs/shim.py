"""The shim: the process that supervises one kernel, with or without a running daemon.

The shim spawns the kernel, writes the kernel's output to a rotated log, records the kernel's exit
status, and terminates every process that the kernel left behind. Its command is ``python -I -S
shim.pyc NAME [PLAN]``. The program is compiled in advance, so that no shim needs memory for a
compiler. NAME is the kernel's name. The NAME of a spare shim is blank; a spare shim reads the
kernel's name from the launch plan. A zygote (`kconnd.programs.zygote`) does not run this command:
it forks its shims. A forked shim reads the same input. The child of a forked shim becomes the
kernel without exec.

Rules. The shim is one file, because ``python -I -S`` runs one compiled file and finds no module
beside it. The shim imports only the standard library, so it keeps working after an upgrade of
kconnd. The shim accepts no commands: it has no socket and ignores signals. A faulty daemon
therefore cannot make the shim lose its kernel. To stop a kernel, the daemon signals the kernel
itself. There is one exception: the shim of a kernel with its own cgroup handles the SIGTERM of the
service manager. The service manager sends this signal to all processes of a unit when it stops the
unit. The shim then records the stop of the unit in the exit file, and sends SIGKILL to the kernel
if the kernel still runs after `UNIT_STOP_GRACE_S`. The shim never blocks the kernel's output:
output that cannot be written is counted and dropped.

Input
-----
The shim reads the launch plan from stdin. The plan consists of ``key=value`` records, each
terminated by a NUL byte, which no value can contain. The last record is ``end=``. If the argument
PLAN is present, the shim reads the plan from the file PLAN instead, and removes this file. The keys
of the records are:

==============  ==================================================================================
``name``        the kernel's name
``arg``         an argument of the command (repeated)
``env``         ``NAME=VALUE`` of the environment (repeated)
``cwd``         the working folder
``umask``       the umask, in octal
``generation``  the number of the launch
``log``         the path of the log
``log_max``     the maximal size of a log file, in bytes
``log_keep``    the number of older logs to keep
``facts``       the path of the facts file
``exit``        the path of the exit file
``lock``        the number of an inherited descriptor of the lock file, on which the caller holds a
                flock(2); the lock file stays locked until the shim exits
``lock_file``   the path of the lock file, which the shim then locks itself; a plan contains
                either ``lock`` or ``lock_file``
``report``      ``1``: after the start of the kernel, write the facts a second time, and add whether
                the start failed, for a caller that cannot read the shim's stdout
``cgroup``      ``1``: the kernel has its own cgroup, which counts how often the kernel reached its
                memory limit
==============  ==================================================================================

Output
------
The facts are the pids and start times of shim and kernel. Before the kernel's first instruction,
the shim writes the facts to the facts file, to stdout and to the lock file. After the kernel's
exit, the shim writes the exit status to the exit file. If the disk of the exit file is full, the
shim writes the exit status to a file beside the facts file: to ``NAME.exit.json`` if the facts file
is ``NAME.shim.json``. If that disk is full, too, the shim writes to the lock file, from byte
``EXIT_AT`` on; this part of the lock file is allocated before the kernel begins. The facts and the
exit status are JSON objects of the version ``PROTOCOL``, and each is either complete or absent.
"""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]  # signal brings enum: 0.7 MB a kernel
import ctypes
import fcntl
import os
import select
import sys
import time

TYPE_CHECKING = False  # importing typing costs memory in every shim
if TYPE_CHECKING:
    from collections.abc import Callable

PROTOCOL = 1
LEFTOVER_GRACE_S = 2.0  # between SIGTERM and SIGKILL to processes that the kernel left behind
# The C library is loaded in the zygote, so that a forked shim does not have to load it.
LIBC = ctypes.CDLL(None)
PRCTL, SIGNALFD = LIBC.prctl, LIBC.signalfd
PR_SET_CHILD_SUBREAPER = 36  # prctl(2)
CHUNK_BYTES = 65536
FACTS_FORMAT = (
    b'{"protocol": %d, "generation": %d, "boot_id": "%s", "host": "%s", "pid_namespace": "%s", '
    b'"shim": [%d, %d], "kernel": [%d, %d]%s}\n'
)
EXIT_FORMAT = (
    b'{"protocol": %d, "generation": %d, "code": %s, "signal": %s, "at": %d.%03d, '
    b'"errno": %s, "step": "%s", "oom": %s, "oom_own": %s, "oom_above": "%s", '
    b'"unit_stopped": %s}\n'
)
# The offset of the exit status in the lock file, and the size of the lock file.
EXIT_AT, LOCK_BYTES = 2048, 4096
SERVICE_MANAGER = (1, 0)  # the pid and uid of the system's service manager
# From a unit's stop to the shim's SIGKILL; systemd sends its own SIGKILL after 45 s.
UNIT_STOP_GRACE_S = 20.0
# An exit within this time after a unit's stop counts as a consequence of the stop.
UNIT_STOP_VALID_S = 60.0
# The size and offsets of a signalfd_siginfo (signalfd(2)).
SIGINFO_BYTES, PID_AT, UID_AT = 128, 12, 16
SIGSET_BYTES = 8  # the size of Linux's sigset_t; the C library's sigset_t is larger
FOLDER_FLAGS = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC  # flags of open(2)
LOG_HEADER = b"[kconnd: launch %d, %s]\n"  # written before the output of each launch
CGROUP_ROOT = b"/sys/fs/cgroup"
PRINTABLE, QUESTION_MARK = range(33, 127), 63  # in ASCII
IGNORED_SIGNALS = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
)


# --- the plan


class Plan:
    """The launch plan, decoded."""

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.args: list[bytes] = []
        self.env: dict[bytes, bytes] = {}
        self.values: dict[str, bytes] = {}
        for record in text.split(b"\0")[:-1]:
            key, _, value = record.partition(b"=")
            if key == b"arg":
                self.args.append(value)
            elif key == b"env":
                name, _, content = value.partition(b"=")
                self.env[name] = content
            else:
                self.values[key.decode()] = value

    def number(self, key: str, base: int = 10) -> int:
        """Return the value of a key as an integer."""
        return int(self.values[key], base)


def read_plan(path: str = "") -> Plan | None:
    """Read the plan from stdin, or from the file ``path``, which is then removed.

    Return None if the plan is incomplete because the sender has died.
    """
    if not path:
        return receive_plan(0)
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    plan = receive_plan(file)
    os.close(file)
    os.unlink(path)
    return plan


def receive_plan(descriptor: int) -> Plan | None:
    """Read a plan until end of file; None if the plan is incomplete because the sender has died."""
    text = b""
    while chunk := os.read(descriptor, CHUNK_BYTES):
        text += chunk
    return Plan(text) if text.endswith(b"\0end=\0") else None


# --- files


class OutputPath:
    """The path of an output file; the path stays valid when the folder of the file is moved.

    On a server, the folders of a deleted account are moved, and folders of another user can appear
    at the old paths. The shim must not write into folders of another user, so it keeps a descriptor
    of the original folder. If the original folder was removed and not moved, no file can be created
    through the descriptor, and the shim uses the original path instead. A warm kernel's folder is
    reached by a symbolic link, which gets another target when the kernel gets its name. The shim
    therefore reads such a link again before each use.
    """

    def __init__(self, path: bytes) -> None:
        self.original = path
        self.name = os.path.basename(path)
        self.folder = -1
        # The path of the link if the folder is a link, else ``b""``. The path leads through a
        # descriptor of the folder that contains the link.
        self.link = b""
        self.target = b""  # the present target of the link
        folder = os.path.dirname(path) or b"."
        try:
            if os.path.islink(folder):
                # The folder that contains the link stays open, so that the link can still be read
                # when this folder was moved.
                parent = os.open(os.path.dirname(folder) or b".", FOLDER_FLAGS)
                self.link = b"/proc/self/fd/%d/%s" % (parent, os.path.basename(folder))
                self._follow_link()
            else:
                self.folder = os.open(folder, FOLDER_FLAGS)
        except OSError:
            return  # `current` then returns the original path

    def _follow_link(self) -> None:
        """Open the target of the link if the link has another target than before."""
        try:
            target = os.readlink(self.link)
            if target == self.target:
                return
            folder = os.open(self.link, FOLDER_FLAGS)
        except OSError:
            return  # the link was removed; the last target stays in use
        if self.folder >= 0:
            os.close(self.folder)
        self.folder, self.target = folder, target

    def current(self) -> bytes:
        """Return the path to use now."""
        if self.link:
            self._follow_link()
        if self.folder >= 0 and os.fstat(self.folder).st_nlink:
            return b"/proc/self/fd/%d/%s" % (self.folder, self.name)
        return self.original


class RotatingLog:
    """The log of the kernel's output: a file that is rotated when it reaches its maximal size."""

    def __init__(self, path: bytes, max_bytes: int, keep: int) -> None:
        self.path, self.max_bytes, self.keep = OutputPath(path), max_bytes, keep
        self.dropped_bytes = 0
        self.file = -1
        self.size = 0

    def write(self, text: bytes) -> None:
        """Append text to the log.

        If an error occurs, drop the text. The next successful write first logs how many bytes were
        dropped.
        """
        try:
            self._open()
            if self.size + len(text) > self.max_bytes > 0:
                self._rotate()
            if self.dropped_bytes:
                notice = b"\n[kconnd: %d bytes of output could not be kept]\n"
                self._append(notice % self.dropped_bytes)
                self.dropped_bytes = 0
            self._append(text)
        except OSError:
            self.dropped_bytes += len(text)

    def _open(self) -> None:
        if self.file < 0:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            self.file = os.open(self.path.current(), flags, 0o600)
            self.size = os.fstat(self.file).st_size

    def _append(self, text: bytes) -> None:
        remaining = memoryview(text)
        while remaining:
            count = os.write(self.file, remaining)
            self.size += count
            remaining = remaining[count:]

    def _rotate(self) -> None:
        """Rename log to log.1, log.1 to log.2 and so on; the oldest log is overwritten."""
        path = self.path.current()
        for number in range(self.keep, 0, -1):
            newer = path if number == 1 else b"%s.%d" % (path, number - 1)
            if os.path.exists(newer):
                os.replace(newer, b"%s.%d" % (path, number))
        if self.keep == 0:
            os.unlink(path)
        os.close(self.file)
        self.file = -1
        self._open()


def write_whole(path: bytes, text: bytes, *, durable: bool) -> None:
    """Write a private file atomically: the file is complete or absent at every instant."""
    part = path + b".part"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    file = os.open(part, flags, 0o600)
    try:
        os.write(file, text)
        if durable:
            os.fsync(file)
    except OSError:
        os.unlink(part)
        raise
    finally:
        os.close(file)
    os.rename(part, path)


def read_proc(path: bytes) -> bytes:
    """Read a file of /proc with one read(2); a file object would take additional memory."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(file, CHUNK_BYTES)
    finally:
        os.close(file)


def start_time(pid: int) -> int:
    """Return a process's start time in ticks since boot: field 22 of proc_pid_stat(5)."""
    return int(read_proc(b"/proc/%d/stat" % pid).rpartition(b")")[2].split()[19])


# --- the child that becomes the kernel


def apply_plan(plan: Plan, output: int, failure_pipe: int) -> None:
    """Prepare the child for the kernel: session, signals, standard files, umask and folder."""
    try:
        os.setsid()
        # SIGPIPE and SIGXFSZ are also reset, because Python ignores them by default.
        for number in (*IGNORED_SIGNALS, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        null = os.open("/dev/null", os.O_RDONLY)
        for standard, descriptor in ((0, null), (1, output), (2, output)):
            os.dup2(descriptor, standard)
        os.umask(plan.number("umask", 8))
        os.chdir(plan.values["cwd"])
    except OSError as error:
        report_failure(failure_pipe, error, b"cwd")


def report_failure(failure_pipe: int, error: OSError, step: bytes) -> None:
    """Send the errno and the name of the failed step to the shim, and exit the child."""
    os.write(failure_pipe, b"%d %s" % (error.errno or 0, step))
    os._exit(127)


def become_by_exec(plan: Plan, failure_pipe: int) -> None:
    """Execute the kernel's command in the child; a successful exec closes the failure pipe."""
    try:
        os.execvpe(plan.args[0], plan.args, plan.env)  # noqa: S606  # a shell would be wrong here
    except OSError as error:
        report_failure(failure_pipe, error, b"exec")


def fork_or_close(*descriptors: int) -> int:
    """Fork; if the fork fails, close the descriptors."""
    try:
        return os.fork()
    except OSError:
        for descriptor in descriptors:
            os.close(descriptor)
        raise


class Child:
    """A forked process that waits for its plan and then becomes the kernel.

    Parameters
    ----------
    become : callable
        A function that turns the child into the kernel. Its arguments are the plan and the failure
        pipe, a descriptor to which it reports a failed step.
    prepare : callable, optional
        A function that runs in the child before the child waits for the plan.
    """

    def __init__(
        self, become: Callable[[Plan, int], None], prepare: Callable[[], None] | None = None
    ) -> None:
        self.output, output = os.pipe()
        plan_read, self._plan_pipe = os.pipe()
        self._failure_pipe, failure_pipe = os.pipe()
        shim_ends = (self.output, self._plan_pipe, self._failure_pipe)
        self.pid = fork_or_close(*shim_ends, output, plan_read, failure_pipe)
        if self.pid == 0:
            try:
                # The child closes its copies of the shim's ends. Otherwise, it would keep the plan
                # pipe open and could not detect the shim's death.
                for descriptor in shim_ends:
                    os.close(descriptor)
                if prepare:
                    prepare()
                plan = receive_plan(plan_read)
                if plan is None:
                    os._exit(0)  # the shim has died before it recorded this process
                apply_plan(plan, output, failure_pipe)
                become(plan, failure_pipe)
            except OSError:
                os._exit(1)  # the child must not continue to run the code of the shim
        for descriptor in (output, plan_read, failure_pipe):
            os.close(descriptor)

    def begin(self, plan: Plan) -> bytes:
        """Write the facts, and send the child its plan.

        Return ``b"ERRNO STEP"`` if a step of the start has failed, else ``b""``.
        """
        record_facts(plan, self.pid)
        remaining = memoryview(plan.text)
        try:
            while remaining:
                remaining = remaining[os.write(self._plan_pipe, remaining) :]
        except BrokenPipeError:
            pass  # the child has died; `Descendants.reap` detects this
        os.close(self._plan_pipe)
        failure = os.read(self._failure_pipe, 100)  # empty if exec has closed the other end
        if plan.values.get("report"):
            errno, _, step = failure.partition(b" ")
            record_facts(plan, self.pid, b', "errno": %s, "step": "%s"' % (errno or b"null", step))
        os.close(self._failure_pipe)
        return failure

    def is_running(self) -> bool:
        """Return whether the child runs; False if it has exited or a signal has stopped it."""
        return os.waitpid(self.pid, os.WNOHANG | os.WUNTRACED)[0] == 0

    def dismiss(self) -> None:
        """Close the pipes; a child without a plan then exits, and `Descendants` reaps the child."""
        for descriptor in (self.output, self._plan_pipe, self._failure_pipe):
            os.close(descriptor)


# --- the facts


def record_facts(plan: Plan, pid: int, more: bytes = b"") -> None:
    """Write the facts: pid and start time of shim and kernel, boot id, host, pid namespace."""
    boot_id = read_proc(b"/proc/sys/kernel/random/boot_id").strip()
    shim = os.getpid()
    generation = plan.number("generation")
    scope = (boot_id, host_name(), os.readlink(b"/proc/self/ns/pid"))
    values = (PROTOCOL, generation, *scope, shim, start_time(shim), pid, start_time(pid), more)
    facts = FACTS_FORMAT % values
    write_whole(plan.values["facts"], facts, durable=False)
    write_into_lock(plan.number("lock"), facts)
    answer_caller(facts)


def host_name() -> bytes:
    """Return the host name, converted by `as_word`."""
    name = os.uname().nodename.encode("ascii", "replace")
    return as_word(name)


def as_word(name: bytes) -> bytes:
    """Replace quotes, backslashes, spaces and bytes that are not printable ASCII by ``?``."""
    return bytes(
        code if code in PRINTABLE and code not in b'"\\' else QUESTION_MARK for code in name
    )


def write_into_lock(lock: int, facts: bytes) -> None:
    """Write the facts to the lock file, and allocate space in it for the exit status."""
    try:
        os.pwrite(lock, facts.ljust(LOCK_BYTES), 0)
        os.ftruncate(lock, LOCK_BYTES)
    except OSError:
        return  # the disk is full; the lock itself is still held


def answer_caller(text: bytes) -> None:
    """Write to stdout; if the caller has died, its successor reads the facts file instead."""
    try:
        os.write(1, text)
    except OSError:
        return


# --- the exit


class UnitStop:
    """Detects a stop of the shim's unit by the SIGTERM that the service manager (process 1) sends.

    The operating system reports the sender of a signal. A process can forge the sender in a signal
    to itself, but not in a signal to another process.
    """

    def __init__(self, *, enabled: bool) -> None:
        self.file = -1
        self.at: float | None = None  # the time of the signal, in monotonic seconds
        if enabled:
            signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM,))
            mask = (1 << signal.SIGTERM - 1).to_bytes(SIGSET_BYTES, sys.byteorder)
            flags = os.O_NONBLOCK | os.O_CLOEXEC  # SFD_NONBLOCK and SFD_CLOEXEC have these values
            self.file = SIGNALFD(-1, mask + bytes(SIGINFO_BYTES), flags)

    def read(self) -> None:
        """Read all pending signals; ignore those that the service manager did not send."""
        while self.file >= 0:
            try:
                info = os.read(self.file, SIGINFO_BYTES)
            except OSError:
                return  # no signal is pending
            pid, uid = (
                int.from_bytes(info[start : start + 4], sys.byteorder) for start in (PID_AT, UID_AT)
            )
            if (pid, uid) == SERVICE_MANAGER and self.at is None:
                self.at = time.monotonic()

    def is_reason(self) -> bool:
        """Return whether a kernel's exit at this moment counts as a result of the unit's stop."""
        self.read()
        return self.at is not None and time.monotonic() - self.at < UNIT_STOP_VALID_S


def exit_paths(plan: Plan) -> tuple[OutputPath, OutputPath]:
    """Return the path of the exit file, and the path to use if the exit file's disk is full."""
    beside_facts = plan.values["facts"].removesuffix(b".shim.json") + b".exit.json"
    return OutputPath(plan.values["exit"]), OutputPath(beside_facts)


def record_exit(
    plan: Plan,
    status: int,
    failure: bytes,
    paths: tuple[OutputPath, OutputPath],
    *,
    limits: MemoryLimits | None,
    unit_stopped: bool,
) -> None:
    """Write the exit status; ``failure`` is the result of `Child.begin`."""
    exit_code = os.waitstatus_to_exitcode(status)
    code, number = (b"null", b"%d" % -exit_code) if exit_code < 0 else (b"%d" % exit_code, b"null")
    seconds, milliseconds = divmod(time.time_ns() // 1_000_000, 1000)
    errno, _, step = failure.partition(b" ")
    values = (PROTOCOL, plan.number("generation"), code, number, seconds, milliseconds)
    is_killed = exit_code == -signal.SIGKILL
    oom = limits.verdict() if limits is not None and is_killed else NO_OOM
    stopped = b"true" if unit_stopped else b"false"
    text = EXIT_FORMAT % (*values, errno or b"null", step, *oom, stopped)
    for path in paths:
        try:
            write_whole(path.current(), text, durable=True)
        except OSError:
            continue  # the disk is full; try the next path
        return
    try:
        os.pwrite(plan.number("lock"), text, EXIT_AT)
        os.fsync(plan.number("lock"))
    except OSError:
        return  # the disk is read-only; the daemon will report an unobserved exit


# --- memory limits

NO_OOM = (b"false", b"false", b"")


class MemoryLimits:
    """Finds which memory limit was reached: that of the kernel's cgroup or of a parent cgroup.

    Linux counts a kill by the OOM killer in the cgroup of the killed process, even if the limit of
    a parent cgroup was the cause. Each cgroup also counts how often it reached its own limit
    (cgroups(7)). This class therefore reads these counts before and after the run of the kernel.
    """

    def __init__(self, root: bytes = CGROUP_ROOT, place: bytes = b"/proc/self/cgroup") -> None:
        self.hits_before = [(group, limit_hits(group)) for group in memory_groups(root, place)]

    def verdict(self) -> tuple[bytes, bytes, bytes]:
        """Return ``oom``, ``oom_own`` and ``oom_above`` of the exit status, as JSON text.

        ``oom`` is true if the OOM killer killed a process of the kernel's cgroup, and ``oom_own``
        if this cgroup reached its limit. ``oom_above`` is the name of the lowest parent cgroup that
        reached its limit. If ``oom`` is true and no cgroup reached its limit, the machine ran out
        of memory.
        """
        if not self.hits_before:
            return NO_OOM
        own_group, _ = self.hits_before[0]
        if not oom_kills(own_group):
            return NO_OOM
        reached = [group for group, hits in self.hits_before if limit_hits(group) > hits]
        above = [group for group in reached if group != own_group]
        name = as_word(os.path.basename(above[0])) if above else b""
        return b"true", b"true" if own_group in reached else b"false", name


def memory_groups(root: bytes, place: bytes) -> list[bytes]:
    """List the folders of the kernel's memory cgroup and of all parent cgroups, lowest first."""
    try:
        rows = [row.split(b":", 2) for row in read_proc(place).splitlines()]
    except OSError:
        return []
    for _, controllers, path in rows:
        top = root + b"/memory" if b"memory" in controllers.split(b",") else root
        group = top + path.rstrip(b"/")
        if (top != root or not controllers) and limit_files(group):
            groups = []
            while len(group) > len(top):
                groups.append(group)
                group = os.path.dirname(group)
            return groups
    return []


def limit_files(group: bytes) -> list[bytes]:
    """List the files in which a cgroup (v2 or v1) counts how often it reached its memory limit."""
    names = (b"memory.events.local", b"memory.events", b"memory.failcnt")
    return [path for path in (group + b"/" + name for name in names) if os.path.exists(path)]


def limit_hits(group: bytes) -> int:
    """Return how often a cgroup has reached its memory limit.

    In cgroup v2, the count includes only the times when no memory could be freed.
    """
    for path in limit_files(group)[:1]:
        counts = read_counts(path)
        return counts.get(b"oom", counts.get(b"", 0))
    return 0


def oom_kills(group: bytes) -> int:
    """Count the processes of a cgroup that the OOM killer killed."""
    files = (b"/memory.events", b"/memory.oom_control")
    return sum(read_counts(group + file).get(b"oom_kill", 0) for file in files)


def read_counts(path: bytes) -> dict[bytes, int]:
    """Read a file of counts: lines ``NAME NUMBER``, or one number, which gets the name ``b""``."""
    try:
        rows = [line.rpartition(b" ") for line in read_proc(path).splitlines()]
        return {name: int(number) for name, _, number in rows}
    except (OSError, ValueError):
        return {}


# --- supervision


class Descendants:
    """The kernel and all its descendants; the shim inherits orphans as their subreaper (prctl(2)).

    Parameters
    ----------
    kernel : int
        The kernel's pid.
    record : callable
        A function that is called once, after the kernel's exit, with the kernel's wait status.
    unit_stop : UnitStop
        The detector of a unit's stop.
    """

    def __init__(self, kernel: int, record: Callable[[int], None], unit_stop: UnitStop) -> None:
        self.kernel = kernel
        self.record = record
        self.unit_stop = unit_stop
        self.kernel_exited = False
        self.deadline: float | None = None  # the time of the next signal to the kernel's leftovers

    def reap(self) -> bool:
        """Reap all exited children; return whether the shim still has children."""
        try:
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return True
                if pid == self.kernel and not self.kernel_exited:
                    self.kernel_exited = True
                    self.record(status)
        except ChildProcessError:
            return False

    def terminate_leftovers(self) -> None:
        """Send the kernel's leftovers the signal that is due: first SIGTERM, later SIGKILL.

        If the unit is being stopped, SIGTERM is omitted, because the service manager has already
        sent it to all processes. In this case, SIGKILL is also sent to a kernel that still runs.
        """
        if not self.kernel_exited:
            if self.unit_stop.at is None:
                return
            if self.deadline is None:
                self.deadline = self.unit_stop.at + UNIT_STOP_GRACE_S
        if self.deadline is None:
            self._signal(signal.SIGTERM)
        elif time.monotonic() >= self.deadline:
            self._signal(signal.SIGKILL)
        else:
            return
        self.deadline = time.monotonic() + LEFTOVER_GRACE_S

    def timeout_ms(self) -> float | None:
        """Return the milliseconds until the next signal is due; None if no signal is scheduled."""
        if self.deadline is None:
            return None
        return max(0.0, self.deadline - time.monotonic()) * 1000

    def _signal(self, number: int) -> None:
        """Send a signal to all descendants, including those in other sessions."""
        for pid, started in list_descendants(os.getpid()):
            try:
                pidfd = os.pidfd_open(pid)
            except OSError:
                continue  # it has exited meanwhile
            try:
                # A different start time means that the pid was reused before the pidfd was opened.
                if start_time(pid) == started:
                    signal.pidfd_send_signal(pidfd, number)
            except OSError:
                continue  # the process has exited, or it is a set-uid program of another user
            finally:
                os.close(pidfd)


def list_descendants(root: int) -> list[tuple[int, int]]:
    """List pid and start time of each descendant of a process, children before grandchildren."""
    children: dict[int, list[tuple[int, int]]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                fields = read_proc(b"/proc/%s/stat" % name.encode()).rpartition(b")")[2].split()
            except OSError:
                continue  # it has exited meanwhile
            children.setdefault(int(fields[1]), []).append((int(name), int(fields[19])))
    descendants = list(children.get(root, ()))
    for pid, _ in descendants:  # the loop extends the list
        descendants.extend(children.get(pid, ()))
    return descendants


def watch(output: int, log: RotatingLog, descendants: Descendants) -> None:
    """Copy the output to the log until the kernel and all its leftovers have exited."""
    wake, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    unit_stop = descendants.unit_stop
    poll = select.poll()
    poll.register(output, select.POLLIN)
    poll.register(wake, select.POLLIN)
    if unit_stop.file >= 0:
        poll.register(unit_stop.file, select.POLLIN)
    while descendants.reap():
        descendants.terminate_leftovers()
        for ready, _ in poll.poll(descendants.timeout_ms()):
            if ready == wake:
                os.read(wake, CHUNK_BYTES)
            elif ready == unit_stop.file:
                unit_stop.read()
            elif not copy(output, log):
                poll.unregister(output)
    # Output that was written before the last exit may still be in the pipe.
    os.set_blocking(output, False)
    while copy(output, log):
        pass


def copy(output: int, log: RotatingLog) -> bool:
    """Copy one chunk of output to the log; return False if there is no output to read."""
    try:
        text = os.read(output, CHUNK_BYTES)
    except BlockingIOError:
        return False
    if text:
        log.write(text)
    return bool(text)


def hold_lock(plan: Plan) -> bool:
    """Lock the lock file unless the caller locked it; return False if another shim holds the lock.

    Afterwards, ``lock`` in the plan is the descriptor of the lock file.
    """
    if "lock_file" not in plan.values:
        os.set_inheritable(plan.number("lock"), False)  # noqa: FBT003  # it takes no keyword
        return True
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    lock = os.open(plan.values["lock_file"], flags, 0o600)
    plan.values["lock"] = b"%d" % lock
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def set_title(name: bytes, room: int) -> None:
    """Write the name into the command line that ``ps`` shows.

    Do nothing unless the command line ends with ``room`` spaces. Field 49 of proc_pid_stat(5) is
    the address at which the command line ends.
    """
    end = int(read_proc(b"/proc/self/stat").rpartition(b")")[2].split()[46])
    if end and read_proc(b"/proc/self/cmdline").endswith(b" " * room + b"\0"):
        ctypes.memmove(end - 1 - room, name.ljust(room, b"\0"), room)


def main() -> int:
    """Run one kernel until its exit; return the shim's exit status."""
    plan = read_plan(*sys.argv[2:3])
    if plan and not sys.argv[1].strip():
        set_title(plan.values["name"], len(sys.argv[1]))
    return supervise(plan, lambda: Child(become_by_exec)) if plan else 1


def supervise(plan: Plan, get_child: Callable[[], Child]) -> int:
    """Start the kernel in a child and supervise it; return the shim's exit status."""
    os.umask(0o077)
    if not hold_lock(plan):
        return 3
    os.chdir("/")  # another working folder would keep its file system from being unmounted
    PRCTL(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    for number in IGNORED_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    has_cgroup = bool(plan.values.get("cgroup"))
    limits = MemoryLimits() if has_cgroup else None
    child = get_child()
    # `UnitStop` blocks SIGTERM. This happens after the fork, because the child must not inherit the
    # signal mask, and before the kernel begins, because the unit can be stopped from then on.
    unit_stop = UnitStop(enabled=has_cgroup)
    failure = child.begin(plan)
    answer_caller(failure)
    null = os.open("/dev/null", os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    log = RotatingLog(plan.values["log"], plan.number("log_max"), plan.number("log_keep"))
    now = time.strftime("%FT%TZ", time.gmtime()).encode()
    log.write(LOG_HEADER % (plan.number("generation"), now))
    paths = exit_paths(plan)

    def record(status: int) -> None:
        stopped = unit_stop.is_reason()
        record_exit(plan, status, failure, paths, limits=limits, unit_stopped=stopped)

    watch(child.output, log, Descendants(child.pid, record, unit_stop))
    return 0


if __name__ == "__main__":
    sys.exit(main())
