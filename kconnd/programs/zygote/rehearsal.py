"""Rehearsal: what a kernel does first, done before, for what stock code keeps on its way.

Compiled patterns, caches, modules that are imported late: they are there then, in memory that a
kernel shares. Rules. Standard library only, as for `kconnd.programs.zygote.main`. A rehearsal
leaves nothing that a kernel could see. Where ipykernel or IPython are not as they are known to be,
it ends where it fails, and the kernel does it all for the first time.
"""

from __future__ import annotations

import _thread
import atexit
import builtins
import contextlib
import contextvars
import fnmatch
import gc
import logging
import os
import sys
import warnings
import weakref

TYPE_CHECKING = False  # nothing of these is needed at run time
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

OUTSIDE = (  # steps of making a shell that change the process or need a folder
    "init_ipython_dir",
    "init_profile_dir",
    "init_environment",
    "init_virtualenv",
    "init_sys_modules",
    "init_prompts",
)
MOMENT = 1.0  # seconds in which a message comes that was sent
STARTUP_FILES = ("*.py", "*.ipy")


def rehearse(*, wire: bool = False) -> None:
    """Go through what all kernels do first.

    The parent does, for all of them; and a child that waits for its plan, which has then
    copied most of the memory that a kernel writes to. That has to do with sockets, too
    (``wire``), which have threads for a moment, as nothing may have that is to fork.
    """
    for step in (make_shell, *([exchange_message] if wire else [])):
        # Any other version's insides may be different in any way; argparse ends what fails.
        with contextlib.suppress(Exception, SystemExit):
            step()
    gc.collect()


def make_shell() -> None:
    """Make a shell and what it needs, as far as that leaves no trace, and let it go."""
    app = sys.modules["ipykernel.kernelapp"].IPKernelApp()
    app.log = logging.getLogger()  # its own would be made, and be left
    app.parse_command_line(["-f", os.devnull])
    app.session.serialize(app.session.msg("status"))
    config = sys.modules["traitlets.config"].Config()
    config.HistoryManager.hist_file = ":memory:"  # which has no thread either
    kind = sys.modules["ipykernel.zmqshell"].ZMQInteractiveShell
    shell = kind.__new__(kind)
    shell.log = app.log
    for step in OUTSIDE:
        setattr(shell, step, lambda *_: None)
    with without_trace():
        contextvars.copy_context().run(shell.__init__, config=config)
    for pattern in STARTUP_FILES:
        fnmatch.filter([], pattern)


def exchange_message() -> None:
    """Have a request come in on sockets of its own, and let all of it go.

    Raises
    ------
    RuntimeError
        If there can be no threads: libzmq would abort the process.
    """
    _thread.start_new_thread(gc.isenabled, ())
    zmq, app = sys.modules["zmq"], sys.modules["ipykernel.kernelapp"].IPKernelApp()
    app.log = logging.getLogger()  # as above
    session = app.session
    kinds = (zmq.ROUTER, zmq.DEALER, zmq.XPUB, zmq.PAIR, zmq.REP)
    with contextlib.ExitStack() as stack:
        context = stack.enter_context(zmq.Context())
        sockets = [stack.enter_context(context.socket(kind)) for kind in kinds]
        for number, socket in enumerate(sockets):
            socket.linger = 0
            socket.bind(f"inproc://{number}")
        loop = sys.modules["tornado.ioloop"].IOLoop(make_current=False)
        stack.callback(loop.close)
        clock = loop.asyncio_loop  # which makes no handler of logs as it starts

        def hear(message: Any) -> None:
            session.deserialize(session.feed_identities(message, copy=False)[1], copy=False)
            clock.stop()

        stream = sys.modules["zmq.eventloop.zmqstream"].ZMQStream(sockets[0], loop)
        stack.callback(stream.close)
        stream.on_recv(hear, copy=False)
        sender = stack.enter_context(context.socket(zmq.DEALER))
        sender.connect("inproc://0")
        session.send(sender, "kernel_info_request")
        clock.call_later(MOMENT, clock.stop)
        clock.run_forever()


@contextlib.contextmanager
def without_trace() -> Iterator[None]:
    """Leave nothing in the process of a shell that is made here."""
    names = set(vars(builtins))
    at_exit: Any = atexit
    register = atexit.register
    finalize: Any = weakref.finalize  # a kernel's first one is to have its turn at exit
    finalizing = finalize._registered_with_atexit
    has_traits = sys.modules["traitlets"].HasTraits

    def register_others(what: Any, *args: Any, **how: Any) -> Any:
        owner = getattr(what, "__self__", None)
        ours = owner is finalize or isinstance(owner, has_traits)
        return what if ours else register(what, *args, **how)

    at_exit.register = register_others
    try:
        with warnings.catch_warnings():
            yield
    finally:
        at_exit.register = register
        finalize._registered_with_atexit = finalizing
        for name in vars(builtins).keys() - names:
            delattr(builtins, name)
