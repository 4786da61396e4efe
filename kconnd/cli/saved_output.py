"""Saves the images, HTML and PDF in results as files, for ``kconnd-ctl run --save``."""

from __future__ import annotations

from itertools import count
from pathlib import Path

from kconnd.core.mime_bundle import files_of
from kconnd.errors import KconndError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


class OutputFolder:
    """A folder for output, in which existing files are not overwritten.

    Parameters
    ----------
    path : str
        The path of the folder, which is created if it is missing.

    Raises
    ------
    UsageError
        If the folder cannot be created.
    """

    def __init__(self, path: str) -> None:
        self._folder, self._numbers = Path(path), count(1)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"--save {path}: {error.strerror}") from None

    def save(self, data: Mapping[str, Any]) -> list[Path]:
        """Save the images, HTML and PDF of a MIME bundle, and return the paths of the files.

        Raises
        ------
        KconndError
            If a file cannot be written.
        """
        return [self._write(extension, content) for extension, content in files_of(data)]

    def _write(self, extension: str, content: bytes) -> Path:
        for number in self._numbers:
            path = self._folder / f"output-{number}.{extension}"
            try:
                with path.open("xb") as file:
                    file.write(content)
            except FileExistsError:
                continue
            except OSError as error:
                raise KconndError(
                    f"saving output to {path}: {error.strerror}",
                    hint="the code still runs; kconnd-ctl interrupt interrupts it",
                ) from None
            return path
        raise AssertionError("the numbers never end")
