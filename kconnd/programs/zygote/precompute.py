"""Computes, once before the forks, objects that are equal in all kernels of a zygote.

A forked kernel shares each page of the zygote's memory until one of the two processes writes to the
page. Reading a Python object also writes to its page, because the reference count changes. Some
steps of a kernel's start, such as listing the files of all modules, read many objects and produce a
small result. Such a step copies far more memory than the result needs. The zygote therefore runs
two such steps of ipykernel's start before the fork. The code here uses private names of ipykernel
and traitlets.

Rules. This module imports the standard library only, as `kconnd.programs.zygote.main` explains. To
use a precomputed object, a kernel replaces methods of a class or an attribute of a module. The
first use of the replacement returns the precomputed value and restores the original. If the
installed ipykernel or traitlets lacks the expected names, the object is skipped:
`Precomputed.skipped` contains the reason, the daemon logs it, and the kernel computes the value
itself.
"""

from __future__ import annotations

import itertools
import logging
import os
import sys
import types

TYPE_CHECKING = False  # importing typing would add a module to every kernel
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, Protocol

    class Replacement(Protocol):
        """A precomputed object that replaces a step of a kernel's start."""

        def install(self) -> None:
            """Replace the original step in the kernel's process."""


class Precomputed:
    """All precomputed objects of a zygote.

    Attributes
    ----------
    replacements : list of Replacement
        The objects that work with the installed ipykernel and traitlets.
    skipped : list of str
        The name of each skipped object, and the reason.
    """

    def __init__(self) -> None:
        self.replacements: list[Replacement] = []
        self.skipped: list[str] = []
        factories: tuple[Callable[[], Replacement], ...] = (CommandLine, ModuleFiles)
        for factory in factories:
            try:
                self.replacements.append(factory())
            # With another version of ipykernel or traitlets, a factory can raise any exception. A
            # kernel works without the object.
            except Exception as error:  # noqa: BLE001  # it is reported
                name = getattr(factory, "__name__", "")
                self.skipped.append(f"precompute.{name}: {error!r}")

    def install(self) -> None:
        """Replace steps of ipykernel's start by their results; call this in a kernel's process."""
        for replacement in self.replacements:
            replacement.install()


class CommandLine:
    """The argument parser of ipykernel's command line, with all options added.

    Building the parser takes longer than using it. The parser depends only on the options that the
    application's classes declare. The precomputed parser does not call argcomplete, which is needed
    only for completion in a shell. The precomputed parser saves a forked kernel 7 % of its
    processor time until the first reply, and 2 % of its own memory. To measure the effect, remove
    this class from `Precomputed` and compare the output of ``scripts/bench --only costs``.
    """

    def __init__(self) -> None:
        self.app_class: Any = sys.modules["ipykernel.kernelapp"].IPKernelApp
        require_names(
            self.app_class.parse_command_line,
            {"flatten_flags", "_classes_with_config_traits", "_create_loader"},
        )
        app = self.app_class()
        # Without this assignment, the application would create a logger that stays in every kernel.
        app.log = logging.getLogger()
        self.flags = app.flatten_flags()
        self.classes = list(app._classes_with_config_traits())
        flags, aliases = self.flags
        self.loader = app._create_loader([], aliases, flags, classes=self.classes)
        self.loader._create_parser()

    def install(self) -> None:
        """Replace methods of the application class until `_create_loader` is called."""
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
    """The list of the files of all modules, which ipykernel's debugger collects at its start.

    Collecting the files reads every module object and therefore copies the pages of all modules.
    The precomputed list is a single string in contiguous memory. The precomputed list saves a
    forked kernel 12 % of its own memory, and 5 % of its processor time until the first reply. To
    measure the effect, remove this class from `Precomputed` and compare the output of
    ``scripts/bench --only costs``.
    """

    def __init__(self) -> None:
        self.ipkernel: Any = sys.modules["ipykernel.ipkernel"]
        require_names(
            self.ipkernel.IPythonKernel.__init__, {"sys", "modules", "copy", "_kernel_modules"}
        )
        self.module_count = len(sys.modules)
        main = sys.modules["__main__"]  # excluded, because a kernel has a different `__main__`
        modules = (module for module in sys.modules.values() if module is not main)
        files = (getattr(module, "__file__", None) for module in modules)
        self.files = "\0".join(file for file in files if file)

    def install(self) -> None:
        """Replace ``sys`` in ipykernel's module until the first call of ``sys.modules.copy()``."""
        self.ipkernel.sys = SysUntilCopied(self)

    def copy(self) -> dict[str, Any]:
        """Stand in for ``sys.modules.copy()``: return an object with a ``__file__`` per module."""
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
    """Check that the code of a function, without its decorators, refers to all of these names.

    Raises
    ------
    LookupError
        If a name is missing: the installed version implements the step differently.
    """
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    missing = names - {*function.__code__.co_names}
    if missing:
        qualified = f"{function.__module__}.{function.__qualname__}"
        raise LookupError(f"{qualified} does not use {', '.join(sorted(missing))}")
