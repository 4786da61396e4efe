"""Parses environment files: ``KEY=VALUE`` lines, as in systemd's EnvironmentFile=.

Comments begin with ``#``. Values may be quoted as in a shell. Variables in values are not expanded.
"""

import shlex


def parse_env_file(text: str) -> dict[str, str]:
    """Parse an environment file.

    Raises
    ------
    ValueError
        If a line is not an assignment. The message contains the line number.
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
