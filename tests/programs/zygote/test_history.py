"""A history begins late, and is what it would have been."""

from pathlib import Path

import pytest

from tests.programs.zygote.program import BEGIN, run

HISTORY = """
import logging, os, signal, threading
from pathlib import Path
from ipykernel.zmqshell import ZMQInteractiveShell
from IPython.core import interactiveshell
from IPython.core.history import HistoryManager
from IPython.core.profiledir import ProfileDir
from kconnd.programs.zygote import history as late
from kconnd.programs.zygote.main import import_all
from tornado.ioloop import IOLoop
from traitlets.config import Config

class Kernel:
    started = 0

    def start(self):
        self.started += 1
        self.io_loop = IOLoop.current()

def make(kernel):
    shell = ZMQInteractiveShell.__new__(ZMQInteractiveShell)
    shell.log, shell.kernel, shell.configurables = log, kernel, []
    shell.push = lambda *_, **__: None
    shell.profile_dir = ProfileDir(location=os.path.dirname(file))
    shell.config = Config({"HistoryManager": {"connection_options": options, "db_cache_size": 3}})
    shell.init_history()
    assert shell.configurables == [shell.history_manager]
    return shell.history_manager

def opened():
    fds = os.listdir("/proc/self/fd")
    return any(os.path.realpath(f"/proc/self/fd/{one}") == file for one in fds)

def rows():
    with sqlite3.connect(file) as reader:
        return [list(row) for row in reader.execute("SELECT session FROM sessions")]

def whole(one):
    found = {"lists": read(one), **vars(one), **one._trait_values}
    del found["_trait_values"]
    plain = (bool, int, str, list, dict, Path)
    return {name: repr(value) if isinstance(value, plain) else type(value).__qualname__
            for name, value in found.items()}

def read(one):
    return [one.input_hist_parsed, one.output_hist, one.dir_hist]

import_all([])
told = []
log = logging.Logger("history")
log.addFilter(lambda record: told.append(record.getMessage()))
file, way, options = os.path.realpath(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
late.REST = 0.01
prepare().lay_out()
kernel = Kernel()
one = make(kernel)
lists = read(one)
kernel.start()
before = [kernel.started, "start" in vars(kernel), opened()]
if way == "rest":
    loop = IOLoop.current()
    loop.call_later(0.1, loop.stop)
    loop.start()
elif way == "number":
    one.session_number
elif way == "input":
    one.store_inputs(1, "1 + 1")
elif way == "interrupt":
    begin_session = HistoryManager.new_session

    def interrupted(self):
        signal.raise_signal(signal.SIGINT)
        begin_session(self)

    HistoryManager.new_session = interrupted
    try:
        one.store_inputs(1, "1 + 1")
    except KeyboardInterrupt:
        told.append("interrupted")
    HistoryManager.new_session = begin_session
    assert told.pop() == "interrupted"
elif way == "threads":
    heard = []
    asking = [threading.Thread(target=lambda: heard.append(one.session_number)) for _ in range(9)]
    [thread.start() for thread in asking], [thread.join() for thread in asking]
    assert heard == [1] * 9
elif way == "fork":
    child = os.fork()
    if child == 0:
        one.end_session()
        os._exit(0)
    os.waitpid(child, 0)
begun, sessions = opened(), rows() if os.path.isfile(file) else []
kept = all(map(lambda ours, now: ours is now, lists, read(one)))
other = make(Kernel())  # of IPython's own kind
ours, stock = whole(one), whole(other)
differ = {name for name in ours.keys() | stock.keys() if ours.get(name) != stock.get(name)}
print(json.dumps([before, begun, kept, type(one) is type(other), sessions, sorted(differ), told]))
for each in (one, other):
    each.close()
"""


@pytest.mark.parametrize("way", ["rest", "number", "input", "interrupt", "threads", "fork"])
def test_a_history_begins_once_it_is_needed_or_the_kernel_rests(way: str, tmp_path: Path) -> None:
    """And is then what it would have been, with the lists that the shell has got already."""
    options = '{"check_same_thread": false}'
    found, _ = run(BEGIN + HISTORY, str(tmp_path / "history.sqlite"), way, options)
    before, begun, kept, of_its_kind, sessions, differ, told = found
    assert before == [1, False, False], "the kernel has started, and nothing is open"
    assert (begun, kept, of_its_kind) == (True, True, True)
    assert sessions == [[1]], "also where many want it"
    assert {*differ} == {"session_number", *SINCE.get(way, ())}
    assert told == []


SINCE = {
    "input": {"_i00", "db_input_cache", "input_hist_raw", "input_hist_parsed", "lists"},
    "fork": {"save_thread"},
}
"""What differs since: a cell was run; and before a fork, IPython ends its thread."""


def test_a_history_whose_connection_is_for_one_thread_begins_in_that(tmp_path: Path) -> None:
    found, _ = run(BEGIN + HISTORY, str(tmp_path / "history.sqlite"), "number", "{}")
    assert found[0] == [1, False, True]


def test_a_history_that_cannot_be_opened_is_told_of_as_ipython_does(tmp_path: Path) -> None:
    (tmp_path / "history.sqlite").mkdir()
    options = '{"check_same_thread": false}'
    found, _ = run(BEGIN + HISTORY, str(tmp_path / "history.sqlite"), "rest", options)
    *_, of_its_kind, _, differ, told = found
    half = len(told) // 2
    assert told[:half] == told[half:] != []
    assert (of_its_kind, differ) == (True, [])
