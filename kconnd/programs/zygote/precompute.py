"""Groundwork: what comes out the same in each kernel of a parent, worked out before the fork.

A forked kernel shares the parent's memory until one of them writes to it, and to look at an
object writes to it (its count of references). So what goes through everything once, such as
listing the files of all modules, costs a kernel more memory than what it keeps. It is done by
the parent, for two such things of ipykernel's, which are found under names that are not public.

Rules. Standard library only, as for `kconnd.programs.zygote.main`. What is laid out for a kernel is
taken up by the stock code in the place where that would have worked it out, gives the same, and is
gone from there once it was used. Where ipykernel or traitlets are not as they are known to be,
nothing is laid out, and the kernel works it out as any other does.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import sys
import types

TYPE_CHECKING = False  # nothing of these is needed at run time
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, Protocol

    class Part(Protocol):
        """Something that is laid out in a kernel."""

        def lay_out(self) -> None:
            """Put it where the kernel comes across it."""


class Groundwork:
    """All that a parent has worked out, to be laid out in each kernel before ipykernel runs."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        ours: tuple[Callable[[], Part], ...] = (CommandLine, ModuleFiles)
        for make in ours:
            # Any other version's insides may be different in any way.
            with contextlib.suppress(Exception):
                self.parts.append(make())

    def lay_out(self) -> None:
        """In a kernel: put everything where ipykernel comes across it."""
        for part in self.parts:
            part.lay_out()


class CommandLine:
    """The parser of ipykernel's command line, which takes longer to make than to use.

    It depends on nothing but what the application's class knows as options. Nor does it look
    for argcomplete, which only a shell that completes a line has a use for.
    """

    def __init__(self) -> None:
        self.app: Any = sys.modules["ipykernel.kernelapp"].IPKernelApp
        one = self.app()
        one.log = logging.getLogger()  # its own would be made, and be left
        self.flags = one.flatten_flags()
        self.classes = list(one._classes_with_config_traits())
        flags, aliases = self.flags
        self.loader = one._create_loader([], aliases, flags, classes=self.classes)
        self.loader._create_parser()

    def lay_out(self) -> None:
        """Have the application's class give this one instead of making one, once."""
        app, loader = self.app, self.loader

        def give(self: Any, argv: Sequence[str], *_: object, **__: object) -> Any:
            del app._create_loader, app.flatten_flags, app._classes_with_config_traits
            loader.argv, loader.log = argv, self.log
            loader.parser.prog = os.path.basename(sys.argv[0])
            loader._create_parser = lambda: None
            if "_ARGCOMPLETE" not in os.environ:  # then it does nothing, if it is installed
                loader._argcomplete = lambda *_: None
            return loader

        app.flatten_flags = lambda _: self.flags
        app._classes_with_config_traits = lambda _: self.classes
        app._create_loader = give


class ModuleFiles:
    """The files of all modules that are imported, of which ipykernel's debugger wants to know."""

    def __init__(self) -> None:
        self.ipkernel: Any = sys.modules["ipykernel.ipkernel"]
        names = self.ipkernel.IPythonKernel.__init__.__code__.co_names
        if not {"sys", "modules", "copy", "_kernel_modules"} <= set(names):
            raise LookupError("ipykernel does not list them as it used to")
        self.count = len(sys.modules)
        main = sys.modules["__main__"]  # a kernel's is another
        found = [getattr(one, "__file__", None) for one in sys.modules.values() if one is not main]
        self.files = "\0".join(file for file in found if file)  # one piece of memory

    def lay_out(self) -> None:
        """Have ipykernel's module find them in place of the modules, once."""
        self.ipkernel.sys = SysOnce(self)

    def copy(self) -> dict[str, Any]:
        """Be what ipykernel takes for ``sys.modules``: give all that has a file."""
        self.ipkernel.sys = sys
        since = max(0, len(sys.modules) - self.count)
        own = [sys.modules["__main__"], *itertools.islice(reversed(sys.modules.values()), since)]
        shared = [types.SimpleNamespace(__file__=file) for file in self.files.split("\0")]
        return {str(number): one for number, one in enumerate([*own, *shared])}


class SysOnce(types.ModuleType):
    """What ipykernel takes for ``sys`` until it has asked for the modules."""

    def __init__(self, modules: ModuleFiles) -> None:
        super().__init__("sys")
        self.modules = modules

    def __getattr__(self, name: str) -> Any:
        return getattr(sys, name)
