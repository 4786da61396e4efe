"""The shim: the one process that stays with a kernel, whatever becomes of the daemon.

It spawns the kernel, writes its output to a log that it rotates, records how it ended and takes
down every process that the kernel left behind. Run as ``python -I -S shim.pyc NAME``, compiled,
which spares each shim the compiler's memory, and with blanks in the place of a name that only the
plan tells; or forked from a `kconnd.programs.zygote`, which brings the same input and another way
for the child to become the kernel.

Rules. Standard library only and nothing of ours, so that a shim lives through any upgrade.
Nobody can tell it to do anything: it has no socket and ignores signals, so no fault of a
daemon can make it lose a kernel; whoever wants the kernel gone signals the kernel. Where the
kernel has a control group of its own, it notes a SIGTERM of the service manager, which sends that
to all in a unit that is stopped: the exit file says so. It never
blocks the kernel's output: what cannot be written is counted and dropped.

Its input, on stdin, is the launch plan: ``key=value`` records, each ended by a NUL byte
(which none of the values can hold), the last one ``end=``. With a second argument it is in the
file of that name instead, which is removed when it has been read. Keys: ``arg`` and ``env``
(repeated), ``cwd``, ``umask`` (octal), ``generation``, ``log``, ``log_max`` (bytes),
``log_keep`` (older logs), ``facts``, ``exit`` (paths) and ``lock`` (number of an inherited
descriptor on which the caller holds a flock: it stays locked as long as the shim lives) or
``lock_file`` (path of one to lock), ``report`` (``1`` to have the facts written once more when
the kernel has begun, for a caller that cannot read our stdout), ``cgroup`` (``1`` where the
kernel has one of its own, which tells whether it went over its memory limit).

Its output is the facts file, on stdout and in the locked file too, before the kernel's first
instruction; then the
exit file, which is beside the facts file (``NAME.exit.json`` for ``NAME.shim.json``) where its
own disk is full, and where that is full, too, in the locked file from byte ``EXIT_AT`` on: room
that was taken there before the kernel began. All are JSON, version ``PROTOCOL``, and are whole or
not there.
"""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]  # signal brings enum: 0.7 MB a kernel
import ctypes
import fcntl
import os
import select
import sys
import time

TYPE_CHECKING = False  # typing's own costs memory in every shim
if TYPE_CHECKING:
    from collections.abc import Callable

PROTOCOL = 1
GRACE = 2.0  # seconds that left-over processes get between SIGTERM and SIGKILL
LIBC = ctypes.CDLL(None)  # made here, so that who is forked need not
PRCTL, SIGNALFD = LIBC.prctl, LIBC.signalfd
PR_SET_CHILD_SUBREAPER = 36  # prctl(2)
CHUNK = 65536
FACTS = (
    b'{"protocol": %d, "generation": %d, "boot_id": "%s", "host": "%s", "pid_namespace": "%s", '
    b'"shim": [%d, %d], "kernel": [%d, %d]%s}\n'
)
EXIT = (
    b'{"protocol": %d, "generation": %d, "code": %s, "signal": %s, "at": %d.%03d, '
    b'"errno": %s, "step": "%s", "oom": %s, "oom_own": %s, "oom_above": "%s", '
    b'"unit_stopped": %s}\n'
)
EXIT_AT, LOCK_BYTES = 2048, 4096  # where in the locked file the exit can be; all it ever takes
MANAGER = (1, 0)  # pid and uid of the system's service manager
UNIT_STOP_GRACE_S = 20.0  # to SIGKILL after a unit's stop: systemd's own comes after 45 or 90 s
UNIT_STOP_VALID_S = 60.0  # in which an end is put down to the unit's stop
SIGINFO_BYTES = 128  # signalfd(2), as are the offsets of pid and uid in it
SIGSET_BYTES = 8  # of the kernel's sigset_t; that of the C library is longer
FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC  # flags of open(2)
HEAD = b"[kconnd: launch %d, %s]\n"  # at the head of each process's output in the log
CGROUPS = b"/sys/fs/cgroup"
PRINTED, QUESTION_MARK = range(33, 127), 63  # in ASCII
IGNORED = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
)


class Plan:
    """What to run and where to write about it."""

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
        """Read a number of the plan."""
        return int(self.values[key], base)


class Place:
    """Where a file goes, also once its folder has been moved.

    On a server the folders of an account that has gone are moved, and those that take their
    places are another user's: nothing of this kernel is to be written there. A folder that was
    removed, and made again, is used by its path. One that is a link is another folder once the link
    has turned: a kernel that was kept warm has got its name.
    """

    def __init__(self, path: bytes) -> None:
        self.asked = path
        self.name = os.path.basename(path)
        self.folder = -1
        self.target = b""  # of the link, if it is one
        link, self.link = os.path.dirname(path) or b".", b""
        try:
            if os.path.islink(link):  # it is looked at where it is, once it has been moved, too
                above = os.open(os.path.dirname(link) or b".", FOLDER)
                self.link = b"/proc/self/fd/%d/%s" % (above, os.path.basename(link))
                self._follow()
            else:
                self.folder = os.open(link, FOLDER)
        except OSError:
            return  # it is used by its path

    def _follow(self) -> None:
        """Hold the folder that the link leads to, where it was turned since it was read."""
        try:
            target = os.readlink(self.link)
            if target == self.target:
                return
            folder = os.open(self.link, FOLDER)
        except OSError:
            return  # the link is gone: the folder that it led to holds
        if self.folder >= 0:
            os.close(self.folder)
        self.folder, self.target = folder, target

    def path(self) -> bytes:
        """Give the path to use now."""
        if self.link:
            self._follow()
        if self.folder >= 0 and os.fstat(self.folder).st_nlink:
            return b"/proc/self/fd/%d/%s" % (self.folder, self.name)
        return self.asked


class Log:
    """The kernel's output, appended to a file that is rotated when it is full."""

    def __init__(self, path: bytes, limit: int, keep: int) -> None:
        self.place, self.limit, self.keep = Place(path), limit, keep
        self.dropped = 0
        self.file = -1
        self.size = 0

    def write(self, text: bytes) -> None:
        """Append; on failure (a full disk, say) drop, and tell how much once it works again."""
        try:
            self._open()
            if self.size + len(text) > self.limit > 0:
                self._rotate()
            if self.dropped:
                self._append(b"\n[kconnd: %d bytes of output could not be kept]\n" % self.dropped)
                self.dropped = 0
            self._append(text)
        except OSError:
            self.dropped += len(text)

    def _open(self) -> None:
        if self.file < 0:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            self.file = os.open(self.place.path(), flags, 0o600)
            self.size = os.fstat(self.file).st_size

    def _append(self, text: bytes) -> None:
        view = memoryview(text)
        while view:
            count = os.write(self.file, view)
            self.size += count
            view = view[count:]

    def _rotate(self) -> None:
        """Move log to log.1, log.1 to log.2 and so on; what is beyond ``keep`` is overwritten."""
        path = self.place.path()
        for number in range(self.keep, 0, -1):
            older = path if number == 1 else b"%s.%d" % (path, number - 1)
            if os.path.exists(older):
                os.replace(older, b"%s.%d" % (path, number))
        if self.keep == 0:
            os.unlink(path)
        os.close(self.file)
        self.file = -1
        self._open()


def read_plan(path: str = "") -> Plan | None:
    """Read the plan; one that is cut short (its sender died) is not acted on."""
    if not path:
        return receive_plan(0)
    source = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    plan = receive_plan(source)
    os.close(source)
    os.unlink(path)
    return plan


def receive_plan(source: int) -> Plan | None:
    """Read it from a descriptor."""
    text = b""
    while more := os.read(source, CHUNK):
        text += more
    return Plan(text) if text.endswith(b"\0end=\0") else None


def start_time(pid: int) -> int:
    """Read when a process started, in ticks since boot: field 22 of proc_pid_stat(5)."""
    return int(read_proc(b"/proc/%d/stat" % pid).rpartition(b")")[2].split()[19])


def read_proc(path: bytes) -> bytes:
    """Read a file of the kernel's, which comes in one piece, by no more than that takes."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(file, CHUNK)
    finally:
        os.close(file)


def write_whole(path: bytes, text: bytes, *, durable: bool) -> None:
    """Write a private file so that it is complete or absent at every instant."""
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


def wear(plan: Plan, output: int, trouble: int) -> None:
    """In the child: put on the plan's clothes."""
    try:
        os.setsid()
        for number in (*IGNORED, signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores two more
            signal.signal(number, signal.SIG_DFL)
        nothing = os.open("/dev/null", os.O_RDONLY)
        for theirs, ours in ((0, nothing), (1, output), (2, output)):
            os.dup2(ours, theirs)
        os.umask(plan.number("umask", 8))
        os.chdir(plan.values["cwd"])
    except OSError as error:
        give_up(trouble, error, b"cwd")


def give_up(trouble: int, error: OSError, step: bytes) -> None:
    """In the child: tell the shim why there will be no kernel, and end."""
    os.write(trouble, b"%d %s" % (error.errno or 0, step))
    os._exit(127)


def become_by_exec(plan: Plan, trouble: int) -> None:
    """In the child: become the kernel; the other end of ``trouble`` closes with that."""
    try:
        os.execvpe(plan.args[0], plan.args, plan.env)  # noqa: S606  # a shell here would be wrong
    except OSError as error:
        give_up(trouble, error, b"exec")


def fork_or_close(*descriptors: int) -> int:
    """Fork, or have these descriptors closed."""
    try:
        return os.fork()
    except OSError:
        for one in descriptors:
            os.close(one)
        raise


class Child:
    """The process that becomes the kernel, once it has been recorded and is told what to be.

    Parameters
    ----------
    become : callable
        What it does in the end, given the plan, and where to tell what is wrong with that.
    prepare : callable, optional
        What it does while there is no plan yet.
    """

    def __init__(
        self, become: Callable[[Plan, int], None], prepare: Callable[[], None] | None = None
    ) -> None:
        self.output, output = os.pipe()
        go, self._go = os.pipe()
        self._trouble, trouble = os.pipe()
        self.pid = fork_or_close(self.output, output, go, self._go, self._trouble, trouble)
        if self.pid == 0:
            try:
                for theirs in (self.output, self._go, self._trouble):
                    os.close(theirs)  # with the second it would never see that the shim has died
                if prepare:
                    prepare()
                plan = receive_plan(go)
                if plan is None:
                    os._exit(0)  # the shim died before it could record us: nobody knows us, so go
                wear(plan, output, trouble)
                become(plan, trouble)
            except OSError:
                os._exit(1)  # else it would go on as the shim that it is a copy of
        for ours in (output, go, trouble):
            os.close(ours)

    def begin(self, plan: Plan) -> bytes:
        """Record it, then let it begin. Gives what went wrong, if something did."""
        record_facts(plan, self.pid)
        rest = memoryview(plan.text)
        try:
            while rest:
                rest = rest[os.write(self._go, rest) :]
        except BrokenPipeError:
            pass  # it has died, which will be seen
        os.close(self._go)
        trouble = os.read(self._trouble, 100)  # ends without a word when exec has closed it
        if plan.values.get("report"):
            errno, _, step = trouble.partition(b" ")
            record_facts(plan, self.pid, b', "errno": %s, "step": "%s"' % (errno or b"null", step))
        os.close(self._trouble)
        return trouble

    def is_running(self) -> bool:
        """Tell whether the child has neither exited nor been stopped."""
        return os.waitpid(self.pid, os.WNOHANG | os.WUNTRACED)[0] == 0

    def dismiss(self) -> None:
        """Close its pipes, at which a child without a plan exits; `watch` reaps it."""
        for ours in (self.output, self._go, self._trouble):
            os.close(ours)


def record_facts(plan: Plan, pid: int, more: bytes = b"") -> None:
    """Write who we are and who the kernel is, by pid and start time."""
    boot_id = read_proc(b"/proc/sys/kernel/random/boot_id").strip()
    me = os.getpid()
    generation = plan.number("generation")
    where = (boot_id, host_name(), os.readlink(b"/proc/self/ns/pid"))
    values = (PROTOCOL, generation, *where, me, start_time(me), pid, start_time(pid), more)
    facts = FACTS % values
    write_whole(plan.values["facts"], facts, durable=False)
    write_into_lock(plan.number("lock"), facts)
    tell(facts)


def host_name() -> bytes:
    """Give the host's name, with a question mark for each character that no name should have."""
    name = os.uname().nodename.encode("ascii", "replace")
    return as_word(name)


def as_word(name: bytes) -> bytes:
    """Give a name as it can stand between quotes in JSON."""
    return bytes(one if one in PRINTED and one not in b'"\\' else QUESTION_MARK for one in name)


def write_into_lock(lock: int, facts: bytes) -> None:
    """Write who holds the lock into the locked file, and take there the room for the exit."""
    try:
        os.pwrite(lock, facts.ljust(LOCK_BYTES), 0)
        os.ftruncate(lock, LOCK_BYTES)
    except OSError:
        return  # a full disk: the lock itself is what counts


def tell(text: bytes) -> None:
    """Answer whoever started us; if that has died, the next one reads the facts."""
    try:
        os.write(1, text)
    except OSError:
        return


class UnitStop:
    """Notes that the service manager stops our unit: a SIGTERM whose sender is process 1.

    Who sent a signal, the kernel of the system says; a process can forge that for itself alone.
    """

    def __init__(self, *, wanted: bool) -> None:
        self.file = -1
        self.at: float | None = None  # monotonic seconds
        if wanted:
            signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM,))
            mask = (1 << signal.SIGTERM - 1).to_bytes(SIGSET_BYTES, sys.byteorder)
            flags = os.O_NONBLOCK | os.O_CLOEXEC  # which SFD_NONBLOCK and SFD_CLOEXEC are
            self.file = SIGNALFD(-1, mask + bytes(SIGINFO_BYTES), flags)

    def read(self) -> None:
        """Take the signals that have come; those of others mean nothing."""
        while self.file >= 0:
            try:
                info = os.read(self.file, SIGINFO_BYTES)
            except OSError:
                return  # there is none
            pid, uid = (int.from_bytes(info[at : at + 4], sys.byteorder) for at in (12, 16))
            if (pid, uid) == MANAGER and self.at is None:
                self.at = time.monotonic()

    def is_reason(self) -> bool:
        """Tell whether an end that has just been seen is put down to it."""
        self.read()
        return self.at is not None and time.monotonic() - self.at < UNIT_STOP_VALID_S


def exit_places(plan: Plan) -> tuple[Place, Place]:
    """Give where to write how the kernel ended, and where else if that cannot be written."""
    beside = plan.values["facts"].removesuffix(b".shim.json") + b".exit.json"
    return Place(plan.values["exit"]), Place(beside)


def record_exit(
    plan: Plan,
    status: int,
    trouble: bytes,
    places: tuple[Place, Place],
    *,
    memory: Memory | None,
    unit_stopped: bool,
) -> None:
    """Write how the kernel ended; ``errno`` and ``step`` tell why it never began."""
    result = os.waitstatus_to_exitcode(status)
    code, number = (b"%d" % result, b"null") if result >= 0 else (b"null", b"%d" % -result)
    seconds, milliseconds = divmod(time.time_ns() // 1_000_000, 1000)
    errno, _, step = trouble.partition(b" ")
    values = (PROTOCOL, plan.number("generation"), code, number, seconds, milliseconds)
    killed = memory is not None and result == -signal.SIGKILL
    oom = memory.verdict() if memory is not None and killed else (b"false", b"false", b"")
    stopped = b"true" if unit_stopped else b"false"
    told = EXIT % (*values, errno or b"null", step, *oom, stopped)
    for place in places:
        try:
            write_whole(place.path(), told, durable=True)
        except OSError:
            continue  # a full disk, so it goes to the next place
        return
    try:
        os.pwrite(plan.number("lock"), told, EXIT_AT)
        os.fsync(plan.number("lock"))
    except OSError:
        return  # a disk that is read-only: whoever asks is told that nobody saw the end


class Memory:
    """Which limits of memory were reached: our control group's, or one above it (cgroups(7)).

    A process that the kernel kills for memory is counted where it was, whichever limit it was for.
    So who reached its limit since we began is asked of each group.
    """

    def __init__(self, root: bytes = CGROUPS, place: bytes = b"/proc/self/cgroup") -> None:
        self.groups = memory_groups(root, place)
        self.before = [limit_hits(group) for group in self.groups]

    def verdict(self) -> tuple[bytes, bytes, bytes]:
        """Tell whether a process here was killed for memory, whether for our own limit, and above.

        The last is the name of the lowest group above whose limit was reached. Where neither is
        so, the machine had no memory left.
        """
        if not self.groups or not kills_for_memory(self.groups[0]):
            return b"false", b"false", b""
        reached = [limit_hits(one) > hits for one, hits in zip(self.groups, self.before)]  # noqa: B905  # equal
        above = [one for one, hit in zip(self.groups[1:], reached[1:]) if hit]  # noqa: B905  # the same
        name = as_word(os.path.basename(above[0])) if above else b""
        return b"true", b"true" if reached[0] else b"false", name


def memory_groups(root: bytes, place: bytes) -> list[bytes]:
    """List the folders of our group and those above it, where memory is counted."""
    try:
        rows = [row.split(b":", 2) for row in read_proc(place).splitlines()]
    except OSError:
        return []
    for _, controllers, path in rows:
        top = root + b"/memory" if b"memory" in controllers.split(b",") else root
        group = top + path.rstrip(b"/")
        if (top != root or not controllers) and limit_files(group):
            found = []
            while len(group) > len(top):
                found.append(group)
                group = os.path.dirname(group)
            return found
    return []


def limit_files(group: bytes) -> list[bytes]:
    """List the files of a group, of version 2 or 1, that count how memory ran out."""
    names = (b"memory.events.local", b"memory.events", b"memory.failcnt")
    return [path for path in (group + b"/" + name for name in names) if os.path.exists(path)]


def limit_hits(group: bytes) -> int:
    """Count how often a group's own limit was reached; in version 2, and nothing could be freed."""
    for path in limit_files(group)[:1]:
        counts = read_counts(path)
        return counts.get(b"oom", counts.get(b"", 0))
    return 0


def kills_for_memory(group: bytes) -> int:
    """Count the processes of a group that were killed for memory."""
    both = (read_counts(group + name) for name in (b"/memory.events", b"/memory.oom_control"))
    return sum(counts.get(b"oom_kill", 0) for counts in both)


def read_counts(path: bytes) -> dict[bytes, int]:
    """Read a file of counts, ``NAME NUMBER`` in each line or one number alone."""
    try:
        rows = [line.rpartition(b" ") for line in read_proc(path).splitlines()]
        return {name: int(number) for name, _, number in rows}
    except (OSError, ValueError):
        return {}


class Children:
    """Every process below the shim: the kernel, and orphans, which come to it as subreaper."""

    def __init__(self, kernel: int, record: Callable[[int], None], unit_stop: UnitStop) -> None:
        self.kernel = kernel
        self.record = record  # called once, with the kernel's wait status
        self.unit_stop = unit_stop
        self.ended = False
        self.deadline: float | None = None  # when what the kernel left is killed

    def reap(self) -> bool:
        """Collect all that ended, and tell whether any process is left."""
        try:
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return True
                if pid == self.kernel and not self.ended:
                    self.ended = True
                    self.record(status)
        except ChildProcessError:
            return False

    def press(self) -> None:
        """Once the kernel has ended, end what it left: ask first, after a grace insist.

        One whose unit is stopped has been asked by the service manager.
        """
        if not self.ended:
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
        self.deadline = time.monotonic() + GRACE

    def patience(self) -> float | None:
        """Give the milliseconds until the next step is due; none while the kernel is to live."""
        if self.deadline is None:
            return None
        return max(0.0, self.deadline - time.monotonic()) * 1000

    def _signal(self, number: int) -> None:
        """Signal every descendant, those in sessions of their own too, and nobody else."""
        for pid, started in descendants(os.getpid()):
            try:
                handle = os.pidfd_open(pid)
            except OSError:
                continue  # ended meanwhile
            try:
                if start_time(pid) == started:  # else the number went to a stranger
                    signal.pidfd_send_signal(handle, number)
            except OSError:
                continue  # ended meanwhile, or a set-uid program of another user
            finally:
                os.close(handle)


def descendants(root: int) -> list[tuple[int, int]]:
    """List the processes below one as pid and start time, children before grandchildren."""
    below: dict[int, list[tuple[int, int]]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                fields = read_proc(b"/proc/%s/stat" % name.encode()).rpartition(b")")[2].split()
            except OSError:
                continue  # ended while we looked
            below.setdefault(int(fields[1]), []).append((int(name), int(fields[19])))
    found = list(below.get(root, ()))
    for pid, _ in found:
        found.extend(below.get(pid, ()))
    return found


def watch(output: int, log: Log, children: Children) -> None:
    """Write the log until the kernel has ended and every process that it left is gone."""
    wake, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    poll = select.poll()
    poll.register(output, select.POLLIN)
    poll.register(wake, select.POLLIN)
    if children.unit_stop.file >= 0:
        poll.register(children.unit_stop.file, select.POLLIN)
    while children.reap():
        children.press()
        for ready, _ in poll.poll(children.patience()):
            if ready == wake:
                os.read(wake, CHUNK)
            elif ready == children.unit_stop.file:
                children.unit_stop.read()
            elif not copy(output, log):
                poll.unregister(output)
    os.set_blocking(output, False)
    while copy(output, log):
        pass


def copy(output: int, log: Log) -> bool:
    """Move one piece of output to the log; false when there is no more."""
    try:
        text = os.read(output, CHUNK)
    except BlockingIOError:
        return False
    if text:
        log.write(text)
    return bool(text)


def hold_lock(plan: Plan) -> bool:
    """Hold the lock that says that this kernel has a shim; false where it has one already.

    Its number is in the plan from then on.
    """
    if "lock_file" not in plan.values:
        os.set_inheritable(plan.number("lock"), False)  # noqa: FBT003  # its own signature
        return True
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    lock = os.open(plan.values["lock_file"], flags, 0o600)
    plan.values["lock"] = b"%d" % lock
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def show_name(name: bytes, room: int) -> None:
    """Have a list of processes show a name in the last ``room`` bytes of our command line.

    Where that is, proc_pid_stat(5) tells in field 49.
    """
    end = int(read_proc(b"/proc/self/stat").rpartition(b")")[2].split()[46])
    if end and read_proc(b"/proc/self/cmdline").endswith(b" " * room + b"\0"):
        ctypes.memmove(end - 1 - room, name.ljust(room, b"\0"), room)


def main() -> int:
    """Run one kernel to its end."""
    plan = read_plan(*sys.argv[2:3])
    if plan and not sys.argv[1].strip():
        show_name(plan.values["name"], len(sys.argv[1]))
    return supervise(plan, lambda: Child(become_by_exec)) if plan else 1


def supervise(plan: Plan, have_child: Callable[[], Child]) -> int:
    """Have a child become the kernel, and stay with it to its end."""
    os.umask(0o077)
    if not hold_lock(plan):
        return 3
    os.chdir("/")  # else the shim would hold a file system that somebody wants to unmount
    PRCTL(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    memory = Memory() if plan.values.get("cgroup") else None
    child = have_child()
    # After the fork, since the child must not inherit the mask, and before the kernel begins, since
    # its unit can be stopped from then on.
    unit_stop = UnitStop(wanted=bool(plan.values.get("cgroup")))
    trouble = child.begin(plan)
    tell(trouble)
    nothing = os.open("/dev/null", os.O_RDWR)
    for theirs in (0, 1, 2):
        os.dup2(nothing, theirs)
    log = Log(plan.values["log"], plan.number("log_max"), plan.number("log_keep"))
    log.write(HEAD % (plan.number("generation"), time.strftime("%FT%TZ", time.gmtime()).encode()))
    places = exit_places(plan)

    def record(status: int) -> None:
        stopped = unit_stop.is_reason()
        record_exit(plan, status, trouble, places, memory=memory, unit_stopped=stopped)

    watch(child.output, log, Children(child.pid, record, unit_stop))
    return 0


if __name__ == "__main__":
    sys.exit(main())
