"""Prints the state of the kernel that runs it, as JSON, so that tests can compare kernels."""

import atexit
import builtins
import contextvars
import gc
import json
import locale
import logging
import os
import re
import resource
import signal
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import IPython
from ipykernel.connect import get_connection_file
from ipykernel.kernelapp import IPKernelApp

shell: Any = IPython.get_ipython()
app: Any = IPKernelApp.instance()


def _name(value: object) -> object:
    if isinstance(value, int | str | None):
        return value
    return getattr(value, "__qualname__", type(value).__qualname__)


def _unnumbered(name: str) -> str:
    return re.sub(r"^Thread-\d+", "Thread", name)  # the number depends on timing


def _open_files() -> list[str]:
    found = []
    for link in Path("/proc/self/fd").iterdir():
        try:
            target = str(link.readlink())
        except OSError:
            continue  # the descriptor of this listing
        found.append(target.partition(":[")[0])
    # The descriptors of ZMQ's threads and of the history depend on timing; SQLite also opens the
    # folder of the history, to sync it.
    passing = {"anon_inode", app.profile_dir.location}
    return sorted(one for one in found if one not in passing and "history" not in one)


def _loggers() -> dict[str, object]:
    found = {"root": logging.getLogger()}
    known = logging.Logger.manager.loggerDict.items()
    found |= {name: one for name, one in known if isinstance(one, logging.Logger)}
    return {
        name: [one.level, one.propagate, [_name(handler) for handler in one.handlers]]
        for name, one in found.items()
    }


def _read(path: str) -> str:
    return Path(path).read_text(encoding="utf-8")


def _status(*keys: str) -> dict[str, str]:
    rows = dict(line.split(":\t", 1) for line in _read("/proc/self/status").splitlines())
    return {key: rows[key] for key in keys}


probe = {
    "argv": sys.argv,
    "orig_argv": sys.orig_argv,
    "cmdline": _read("/proc/self/cmdline").rstrip("\0").split("\0"),
    "path": sys.path,
    "path_hooks": [_name(hook) for hook in sys.path_hooks],
    "meta_path": [_name(finder) for finder in sys.meta_path],
    "flags": str(sys.flags),
    "warnings": str(warnings.filters),
    "prefix": [sys.executable, sys.prefix, sys.base_prefix],
    "cwd": str(Path.cwd()),
    "environ": dict(os.environ),
    "umask": [mask := os.umask(0o022), os.umask(mask)][0],
    "signals": {
        signal.Signals(number).name: _name(signal.getsignal(number))
        for number in signal.valid_signals()
        if number in list(signal.Signals)
    },
    "wakeup_fd": (wakeup := signal.set_wakeup_fd(-1)) >= 0,
    "status": _status("SigBlk", "SigIgn", "SigCgt", "NoNewPrivs", "Seccomp", "Groups"),
    "leads_session": [os.getsid(0) == os.getpid(), os.getpgrp() == os.getpid()],
    "parent": _read(f"/proc/{os.getppid()}/cmdline").count("shim"),
    "limits": {
        name: resource.getrlimit(getattr(resource, name))
        for name in dir(resource)
        if name.startswith("RLIMIT_")
    },
    "nice": [os.nice(0), os.sched_getscheduler(0), sorted(os.sched_getaffinity(0))],
    "open_files": _open_files(),
    "streams": {
        name: [
            str(stream.encoding),
            stream.errors,
            getattr(stream, "line_buffering", None),
            getattr(stream, "write_through", None),
        ]
        for name in ("__stdin__", "__stdout__", "__stderr__")
        for stream in [getattr(sys, name)]
    },
    "our_streams": [type(one).__qualname__ for one in (sys.stdin, sys.stdout, sys.stderr)],
    "hooks": [_name(sys.displayhook), _name(sys.excepthook), _name(sys.breakpointhook)],
    "threading_hooks": [_name(threading.excepthook), _name(sys.unraisablehook)],
    "main": sorted(name for name in vars(sys.modules["__main__"]) if not name.startswith("_i")),
    "builtins": sorted(vars(builtins)),
    "modules": sorted(sys.modules),
    "config": json.loads(json.dumps(app.config, default=str)),
    "cli_config": json.loads(json.dumps(app.cli_config, default=str)),
    "config_files": [str(path) for path in app.loaded_config_files],
    "ipython_dir": [app.ipython_dir, app.profile_dir.location],
    "history": [str(shell.history_manager.hist_file), shell.history_manager.enabled],
    "magics": {kind: sorted(found) for kind, found in shell.magics_manager.magics.items()},
    "shell": [sorted(vars(shell)), sorted(shell._trait_values)],
    "configurables": [
        [_name(type(one)), one.config is app.config, _name(getattr(one, "parent", None))]
        for one in shell.configurables
    ],
    "formatters": {
        kind: [_name(type(one)), one.enabled, one.config is app.config, one.parent is formatter]
        for formatter in [shell.display_formatter]
        for kind, one in formatter.formatters.items()
    },
    "events": {name: [_name(one) for one in all_] for name, all_ in shell.events.callbacks.items()},
    "aliases": shell.alias_manager.aliases,
    "logs": [one.log is app.log for one in shell.configurables if hasattr(one, "log")],
    "completes": shell.Completer.namespace is shell.user_ns,
    "context": sorted(one.name for one in contextvars.copy_context()),
    "temporary": tempfile.gettempdir(),
    "extensions": sorted(shell.extension_manager.loaded),
    "loggers": _loggers(),
    "threads": sorted(_unnumbered(thread.name) for thread in threading.enumerate()),
    "native_threads": len(list(Path("/proc/self/task").iterdir())),
    "main_thread": [
        threading.main_thread() is threading.current_thread(),
        threading.main_thread().native_id == os.getpid(),
    ],
    "gc": [gc.isenabled(), gc.get_threshold(), gc.get_debug()],
    "atexit": atexit._ncallbacks(),
    "locale": [locale.setlocale(locale.LC_ALL), time.tzname],
    "recursion": [sys.getrecursionlimit(), sys.getswitchinterval()],
    "connection_file": get_connection_file(),
    "messages": app.session.msg_header("status")["username"],
    "own_code": [
        sys.modules["ipykernel.ipkernel"].sys is sys,
        "_create_loader" in vars(IPKernelApp),
    ],
    "module_files": sorted({getattr(one, "__file__", None) or "" for one in sys.modules.values()}),
    "debuggers_files": getattr(app.kernel, "_kernel_modules", []),
    "traced": [_name(sys.gettrace()), _name(sys.getprofile())],
    "startup": globals().get("from_startup"),
}
signal.set_wakeup_fd(wakeup)
print(json.dumps(probe))  # noqa: T201  # the output of this program
