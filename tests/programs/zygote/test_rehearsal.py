"""A rehearsal leaves nothing behind."""

from tests.programs.zygote.program import BEGIN, run

WIRE = """
import asyncio, atexit, json, logging, os, threading, weakref, zmq
from kconnd.programs.zygote import rehearsal
from kconnd.programs.zygote.main import import_all
from tornado.ioloop import IOLoop

def process():
    everything = [len(os.listdir("/proc/self/task")), sorted(os.listdir("/proc/self/fd"))]
    everything += [threading.active_count(), atexit._ncallbacks(), len(IOLoop._ioloop_for_asyncio)]
    everything += [logging.getLogger().handlers, weakref.finalize._registered_with_atexit]
    everything += [zmq.Context._instance is None, asyncio._get_running_loop()]
    return repr(everything)

import_all([])
rehearsal.make_shell()
heard = []
real = zmq.eventloop.zmqstream.ZMQStream.on_recv

def on_recv(self, hear, **how):
    real(self, lambda message: [hear(message), heard.append(len(message))], **how)

zmq.eventloop.zmqstream.ZMQStream.on_recv = on_recv
before = process()
rehearsal.exchange_message()
print(json.dumps([process() == before, heard]))
"""
THREADLESS = """
import _thread
from kconnd.programs.zygote import rehearsal
from kconnd.programs.zygote.main import import_all
import_all([])

def refuse(*_):
    raise RuntimeError("can't start new thread")

_thread.start_new_thread = refuse
zmq = sys.modules["zmq"]
zmq.Context = None  # nobody gets as far as that
try:
    rehearsal.exchange_message()
except RuntimeError as error:
    print(json.dumps([str(error)]))
"""


def test_a_message_is_exchanged_without_a_trace() -> None:
    (untouched, (frames,)), _ = run(WIRE)
    assert untouched
    assert frames == 7, "an identity, a delimiter, a signature and four parts of a message"


def test_without_threads_no_message_is_exchanged() -> None:
    """Since libzmq ends a process that can have none."""
    (said,), _ = run(BEGIN + THREADLESS)
    assert said == "can't start new thread"
