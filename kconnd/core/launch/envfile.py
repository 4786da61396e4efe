"""Environment files: ``KEY=VALUE`` lines, as systemd reads them (EnvironmentFile=).

Comments begin with ``#``; values may be quoted as a shell would; nothing is expanded.
"""

import shlex


def parse_env_file(text: str) -> dict[str, str]:
    """Read an environment file.

    Raises
    ------
    ValueError
        If a line is not an assignment; the text says which.
    """
    values = {}
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            words = shlex.split(line, comments=True)
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
        if not words:
            continue
        key, equals, value = " ".join(words).partition("=")
        if not equals or not key.isidentifier():
            raise ValueError(f"line {number}: not KEY=VALUE")
        values[key] = value
    return values
