"""Validates the values of a profile's keys: one function for each kind of value.

Rules. Each function validates one value and reads no other key. The function returns the value in
its final form or raises `InvalidValueError`. The error shows the value and the text to write
instead. This module does not use pydantic; `kconnd.core.profile.model` attaches the functions to
the keys.
"""

import ipaddress
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from kconnd.core.launch.kernelspec_checks import find_gateway_placeholder
from kconnd.core.launch.session import why_not_passed
from kconnd.core.names import NAME_PATTERN, is_account_name, is_spec_name
from kconnd.core.profile.problems import InvalidValueError, format_value
from kconnd.core.profile.quantities import format_duration, format_size, parse_duration, parse_size

CHANNELS: Final = ("shell", "iopub", "stdin", "control", "hb")
RESERVED_ENV: Final = frozenset({"JPY_PARENT_PID", "KCONND_CONNECTION_FILE", "KCONND_KERNEL"})
NOTEBOOK_FOLDER: Final = "notebook"  # the value of ``cwd`` for the folder of the notebook
MIN_PORT: Final = 1024
MAX_PORT: Final = 65535
UMASK_PATTERN: Final = "0?[0-7]{3}"

_PORTS_FORMS = (
    "write auto, a range such as 20000-20999, or five different ports "
    f"from {MIN_PORT} to {MAX_PORT}"
)
_RANGE = re.compile(r"\s*([0-9]{1,5})\s*-\s*([0-9]{1,5})\s*")
# After a dollar, the braces are those of a variable in a shell's script.
_SPEC_PLACEHOLDER = re.compile(r"(?<!\$)\{(prefix|resource_dir)\}")
_MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
_PLACEHOLDER = re.compile(r"\{[^{}]*\}")


@dataclass(frozen=True)
class Ports:
    """The choice of a kernel's five ports.

    Parameters
    ----------
    first, last : int
        The range to choose from, including both ends; 0 and 0 mean the default range.
    fixed : tuple of int
        The ports for shell, iopub, stdin, control and hb; empty if the ports are chosen from the
        range.
    """

    first: int = 0
    last: int = 0
    fixed: tuple[int, ...] = ()

    def __str__(self) -> str:
        if self.fixed:
            return ", ".join(map(str, self.fixed))
        return f"{self.first}-{self.last}" if self.last else "auto"


def parse_ports(value: object) -> Ports:
    """Parse ``auto``, a range ``20000-20999``, five ports, or a mapping of channels to ports.

    Raises
    ------
    InvalidValueError
        If the value has another form, or if a port occurs twice or is outside 1024 to 65535.
    """
    if isinstance(value, Ports):
        return value
    if isinstance(value, str):
        return Ports() if value == "auto" else _port_range(value)
    if isinstance(value, Mapping):
        if set(value) != set(CHANNELS):
            raise InvalidValueError(f"the keys must be {', '.join(CHANNELS)}", _PORTS_FORMS)
        value = [value[channel] for channel in CHANNELS]
    if not isinstance(value, list | tuple):
        raise InvalidValueError(f"{format_value(value)} is not a choice of ports", _PORTS_FORMS)
    return Ports(fixed=_validate_five(value))


def _port_range(text: str) -> Ports:
    """Parse ``FIRST-LAST``."""
    match = _RANGE.fullmatch(text)
    if not match:
        raise InvalidValueError(f"{format_value(text)} is not a choice of ports", _PORTS_FORMS)
    first, last = int(match[1]), int(match[2])
    if not MIN_PORT <= first <= last <= MAX_PORT:
        raise InvalidValueError(
            f"{format_value(text)} is no range in {MIN_PORT} to {MAX_PORT}", _PORTS_FORMS
        )
    if last - first + 1 < len(CHANNELS):
        raise InvalidValueError(
            f"{format_value(text)} is too short: a kernel needs five ports", _PORTS_FORMS
        )
    return Ports(first, last)


def _validate_five(ports: list[object] | tuple[object, ...]) -> tuple[int, ...]:
    """Validate five different ports, in the order of `CHANNELS`."""
    numbers = []
    for port in ports:
        if isinstance(port, bool) or not isinstance(port, int):
            raise InvalidValueError(f"{format_value(port)} is not a port number", _PORTS_FORMS)
        if not MIN_PORT <= port <= MAX_PORT:
            raise InvalidValueError(
                f"{format_value(port)} is not a port that a kernel may use", _PORTS_FORMS
            )
        numbers.append(port)
    if len(numbers) != len(CHANNELS):
        raise InvalidValueError(
            f"{len(numbers)} ports are given, a kernel needs five", _PORTS_FORMS
        )
    if len(set(numbers)) != len(numbers):
        raise InvalidValueError(f"a port occurs twice in {numbers}", _PORTS_FORMS)
    return tuple(numbers)


def parse_duration_within(low: float, high: float, value: object) -> float:
    """Parse a duration, which must be from ``low`` to ``high`` seconds, including both ends."""
    seconds = parse_duration(value)
    if seconds < low:
        raise InvalidValueError(
            f"{format_value(value)} is too short: at least {format_duration(low)}"
        )
    if seconds > high:
        raise InvalidValueError(
            f"{format_value(value)} is too long: at most {format_duration(high)}"
        )
    return seconds


def parse_duration_or_off(low: float, value: object) -> float:
    """Parse a duration of at least ``low`` seconds; ``off`` (false in YAML) is ``math.inf``."""
    if value is False or value == "off":
        return math.inf
    return parse_duration_within(low, math.inf, value)


def parse_size_from(low: int, value: object) -> int:
    """Parse a size, which must be at least ``low`` bytes."""
    size = parse_size(value)
    if size < low:
        raise InvalidValueError(f"{format_value(value)} is too small: at least {format_size(low)}")
    return size


def parse_cpus(value: object) -> float:
    """Parse a number of processors: ``1.5``, or ``150%`` as in systemd's CPUQuota=."""
    check_text = str(value)
    try:
        number = float(check_text.removesuffix("%")) / (100 if check_text.endswith("%") else 1)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise InvalidValueError(
            f"{format_value(value)} is not a number of processors", "write 1.5 or 150%"
        )
    return number


def check_text(value: str) -> str:
    """Refuse text that cannot be an argument, a path or an environment variable (execve(2))."""
    if "\0" in value:
        raise InvalidValueError("holds a NUL character, which cannot be passed to a process")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise InvalidValueError("holds a character that is not text")
    return value


def check_not_empty(value: str) -> str:
    """Refuse an empty string, because an empty string would act like an absent key."""
    if not value.strip():
        raise InvalidValueError(
            f"{format_value(value)} is empty", "give it a value, or drop the key"
        )
    return value


def check_absolute(value: str) -> str:
    """Validate a path that begins with / or ~."""
    if not value.startswith(("/", "~")):
        hint = "begin it with / or ~, since a daemon has no folder of its own"
        raise InvalidValueError(f"{format_value(value)} is not an absolute path", hint)
    return value


def check_folder(value: str) -> str:
    """Validate a working directory: an absolute path, or ``notebook``."""
    return value if value == NOTEBOOK_FOLDER else check_absolute(value)


def check_folder_pair(value: str) -> str:
    """Validate ``FOLDER`` or ``FOLDER:FOLDER-IN-THE-CONTAINER``."""
    folder, colon, inside = value.partition(":")
    check_absolute(folder)
    if colon and (not inside.startswith("/") or ":" in inside):
        hint = "write FOLDER:/FOLDER-IN-THE-CONTAINER, as for docker run -v"
        raise InvalidValueError(f"{format_value(inside)} is not an absolute path", hint)
    return value


def reject_instance(value: str) -> str:
    """Refuse ``{instance}`` in a value in which kconnd does not replace it."""
    if "{instance}" in value:
        hint = "it is replaced in cwd and in the values of env"
        raise InvalidValueError(f"{{instance}} cannot stand in {format_value(value)}", hint)
    return value


def check_placeholders(value: str) -> str:
    """Refuse placeholders other than ``{instance}``."""
    for placeholder in _PLACEHOLDER.findall(value):
        if placeholder != "{instance}":
            hint = "the only one is {instance}"
            raise InvalidValueError(f"{format_value(placeholder)} is an unknown placeholder", hint)
    return value


def check_env_name(name: str) -> str:
    """Validate the name of an environment variable; names that kconnd sets itself are refused."""
    if not name or "=" in name or "\0" in name:
        hint = "a name is not empty and has no '='"
        raise InvalidValueError(f"{format_value(name)} is not a name for a variable", hint)
    if name in RESERVED_ENV:
        raise InvalidValueError(f"{format_value(name)} is set by kconnd itself", "drop it")
    return name


def check_passed_name(name: str) -> str:
    """Validate the name of a variable that a kernel takes from the session of its owner."""
    if reason := why_not_passed(check_text(name)):
        raise InvalidValueError(f"{format_value(name)} cannot be passed: {reason}", "drop it")
    return name


def env_text(value: object) -> object:
    """Convert a number to text; refuse a Boolean, because YAML reads a bare ``no`` as false."""
    if isinstance(value, bool):
        raise InvalidValueError(
            f"{format_value(value)} is a truth value in YAML", "put the text in quotes"
        )
    return str(value) if isinstance(value, int | float) else value


def parse_umask(value: object) -> str:
    """Parse a umask, which must be text: YAML reads 077 as an octal number and 77 as a decimal one.

    The result has three digits.
    """
    hint = 'write three octal digits in quotes: umask: "077"'
    if not isinstance(value, str):
        raise InvalidValueError(f"{format_value(value)} is not text", hint)
    if not re.fullmatch(UMASK_PATTERN, value):
        raise InvalidValueError(f"{format_value(value)} is not a umask", hint)
    return value[-3:]


def check_kernel_name(value: str) -> str:
    """Validate the name of a profile (see `kconnd.core.names`)."""
    if not re.fullmatch(NAME_PATTERN, value):
        hint = "up to 40 letters, digits, dots, dashes and underscores, a letter or digit first"
        raise InvalidValueError(f"{format_value(value)} is not a name for a kernel", hint)
    return value


def check_spec_name(value: str) -> str:
    """Validate the name of an installed kernel spec: Jupyter's name, or one derived from it."""
    if not is_spec_name(value):
        hint = "'jupyter kernelspec list' lists them; the key for an interpreter's path is python"
        raise InvalidValueError(f"{format_value(value)} is not the name of a kernel spec", hint)
    return value


def check_user_name(value: str) -> str:
    """Validate a login name."""
    if not is_account_name(value) or value.startswith("@"):
        raise InvalidValueError(f"{format_value(value)} is not a user's name", "write a login name")
    if value == "root":
        raise InvalidValueError("kernels of root are not shared", "name a user account for it")
    return value


def check_positive(value: int) -> int:
    """Validate a number of at least 1."""
    if value < 1:
        raise InvalidValueError(f"{value} is too small: at least 1", "")
    return value


def check_member(value: str) -> str:
    """Validate the name of a user, or of a group with ``@`` before it."""
    if not is_account_name(value.removeprefix("@")):
        hint = "write a login name, or @ and the name of a group"
        raise InvalidValueError(f"{format_value(value)} is neither a user nor a group", hint)
    return value


def check_module_name(value: str) -> str:
    """Validate the name of a Python module."""
    if not _MODULE.fullmatch(value):
        raise InvalidValueError(
            f"{format_value(value)} is not a module's name", "write it as in an import statement"
        )
    return value


def check_ip(value: str) -> str:
    """Validate an IPv4 or IPv6 address.

    A host name is refused, because a start would wait for DNS.
    """
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        raise InvalidValueError(
            f"{format_value(value)} is not an IP address", "write 127.0.0.1 or ::1"
        ) from None
    if address.is_multicast:
        raise InvalidValueError(
            f"{format_value(value)} is a multicast address", "write 127.0.0.1 or ::1"
        )
    return value


def split_lines(value: object) -> object:
    """Split a text into lines; a list is returned unchanged."""
    return value.splitlines() if isinstance(value, str) else value


def flatten_lines(items: tuple[str, ...]) -> tuple[str, ...]:
    """Split the items of a list into lines."""
    return tuple(line for item in items for line in item.splitlines())


def check_command(argv: tuple[str, ...]) -> tuple[str, ...]:
    """Validate a command: it needs a program and an argument with ``{connection_file}``."""
    if not argv:
        raise InvalidValueError(
            "the list is empty", "write the command, with '{connection_file}' in it"
        )
    if "/" in check_not_empty(argv[0]):
        check_absolute(argv[0])
    if not any("{connection_file}" in word for word in argv[1:]):
        hint = "add '-f', '{connection_file}', or the option that this kernel has for it"
        raise InvalidValueError("no argument holds {connection_file}", hint)
    for word in argv:
        _check_argument(word)
    return argv


def _check_argument(word: str) -> None:
    """Refuse placeholders that kconnd does not replace in a profile's command."""
    if placeholder := find_gateway_placeholder(word):
        hint = "write a command that runs the kernel on this machine"
        raise InvalidValueError(f"only a gateway fills in {placeholder}", hint)
    if match := _SPEC_PLACEHOLDER.search(word):
        hint = "write the path of the folder instead"
        raise InvalidValueError(f"{match[0]} is replaced in a kernel spec only", hint)
