"""Computes objects that are the same in every kernel of a zygote, once before the fork.

A forked kernel shares the zygote's memory until either process writes to a page. Reading a Python
object writes to its page as well, because it changes the reference count. So a step that visits
every object once, such as listing the files of all modules, costs a kernel more memory than its
result takes. The zygote runs two such steps of ipykernel's start ahead of time, both behind names
that are not public.

Rules. This module imports the standard library only, as `kconnd.programs.zygote.main` explains.
Each precomputed object replaces one stock function or module attribute; its first use returns the
precomputed value and restores the original. When ipykernel or traitlets differ from the versions
known here, the object is skipped: `Precomputed.skipped` says why, the daemon logs it, and the
kernel computes the value itself.
"""

from __future__ import annotations

import itertools
import logging
import os
import sys
import types

TYPE_CHECKING = False  # importing typing would put it among the modules of every kernel
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, Protocol

    class Replacement(Protocol):
        """A precomputed object that replaces a step of a kernel's start."""

        def install(self) -> None:
            """Replace the stock step, in the kernel's process."""


class Precomputed:
    """All precomputed objects of a zygote.

    Attributes
    ----------
    replacements : list of Replacement
        The objects that work with the installed ipykernel and traitlets.
    skipped : list of str
        The name of each other object, and why it was skipped.
    """

    def __init__(self) -> None:
        self.replacements: list[Replacement] = []
        self.skipped: list[str] = []
        factories: tuple[Callable[[], Replacement], ...] = (CommandLine, ModuleFiles)
        for factory in factories:
            try:
                self.replacements.append(factory())
            # Internals of another version can fail in any way; the kernel runs without the object.
            except Exception as error:  # noqa: BLE001  # it is reported
                name = getattr(factory, "__name__", "")
                self.skipped.append(f"precompute.{name}: {error!r}")

    def install(self) -> None:
        """Replace the stock steps in a kernel's process, before ipykernel runs."""
        for replacement in self.replacements:
            replacement.install()


class CommandLine:
    """The argument parser of ipykernel's command line, with all options added.

    Building the parser takes longer than parsing with it, and depends only on the options that the
    application's classes declare. The precomputed parser does not call argcomplete either, which
    has an effect only in a shell that completes a line. It saves a forked kernel 7 % of its
    processor time until the first reply, and 2 % of its own memory. To measure it, remove the class
    from `Precomputed` and compare the output of ``scripts/bench --only costs``.
    """

    def __init__(self) -> None:
        self.app_class: Any = sys.modules["ipykernel.kernelapp"].IPKernelApp
        require_names(
            self.app_class.parse_command_line,
            {"flatten_flags", "_classes_with_config_traits", "_create_loader"},
        )
        app = self.app_class()
        app.log = logging.getLogger()  # the default is a logger of its own, which would stay
        self.flags = app.flatten_flags()
        self.classes = list(app._classes_with_config_traits())
        flags, aliases = self.flags
        self.loader = app._create_loader([], aliases, flags, classes=self.classes)
        self.loader._create_parser()

    def install(self) -> None:
        """Make the application class return the precomputed parser once."""
        app_class, loader = self.app_class, self.loader

        def create_loader(app: Any, argv: Sequence[str], *_: object, **__: object) -> Any:
            del app_class._create_loader
            del app_class.flatten_flags, app_class._classes_with_config_traits
            loader.argv, loader.log = argv, app.log
            loader.parser.prog = os.path.basename(sys.argv[0])
            loader._create_parser = lambda: None
            if "_ARGCOMPLETE" not in os.environ:
                loader._argcomplete = lambda *_: None
            return loader

        app_class.flatten_flags = lambda _: self.flags
        app_class._classes_with_config_traits = lambda _: self.classes
        app_class._create_loader = create_loader


class ModuleFiles:
    """The files of all imported modules, which ipykernel's debugger collects at its start.

    Collecting them reads every module object and so copies its page. The files are kept as one
    string instead, which is one piece of memory. It saves a forked kernel 12 % of its own memory,
    and 5 % of its processor time until the first reply. To measure it, remove the class from
    `Precomputed` and compare the output of ``scripts/bench --only costs``.
    """

    def __init__(self) -> None:
        self.ipkernel: Any = sys.modules["ipykernel.ipkernel"]
        require_names(
            self.ipkernel.IPythonKernel.__init__, {"sys", "modules", "copy", "_kernel_modules"}
        )
        self.module_count = len(sys.modules)
        main = sys.modules["__main__"]  # the zygote's; a kernel has another one
        modules = (module for module in sys.modules.values() if module is not main)
        files = (getattr(module, "__file__", None) for module in modules)
        self.files = "\0".join(file for file in files if file)

    def install(self) -> None:
        """Replace the name ``sys`` in ipykernel's module until its modules are copied once."""
        self.ipkernel.sys = SysUntilCopied(self)

    def copy(self) -> dict[str, Any]:
        """Return an object with a ``__file__`` for each module, as ``sys.modules.copy()`` does."""
        self.ipkernel.sys = sys
        new_count = max(0, len(sys.modules) - self.module_count)
        new_modules = itertools.islice(reversed(sys.modules.values()), new_count)
        shared = [types.SimpleNamespace(__file__=file) for file in self.files.split("\0")]
        modules = [sys.modules["__main__"], *new_modules, *shared]
        return {str(number): module for number, module in enumerate(modules)}


class SysUntilCopied(types.ModuleType):
    """A stand-in for ``sys`` whose ``modules.copy()`` returns the precomputed files."""

    def __init__(self, modules: ModuleFiles) -> None:
        super().__init__("sys")
        self.modules = modules

    def __getattr__(self, name: str) -> Any:
        return getattr(sys, name)


def require_names(function: Any, names: set[str]) -> None:
    """Check that a function's code, below its decorators, still refers to some names.

    Raises
    ------
    LookupError
        If it does not, because another version does the step in another way.
    """
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    missing = names - {*function.__code__.co_names}
    if missing:
        qualified = f"{function.__module__}.{function.__qualname__}"
        raise LookupError(f"{qualified} does not use {', '.join(sorted(missing))}")
