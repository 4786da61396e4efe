"""``kconnd-ctl kernelspec``: writes, removes and lists kernel specs for profiles.

`kconnd.cli.software_probe` does the action ``probe``.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from pathlib import Path

from kconnd.cli.batch import client_for
from kconnd.client import kernel_path, name_in_reply
from kconnd.core.launch.kernelspec_file import PREFIX, KernelSpec, provisioned_spec
from kconnd.core.paths import jupyter_data_dir
from kconnd.core.protocol.request_head import quote
from kconnd.errors import ElsewhereError, KconndError, NoSuchKernelError, UsageError
from kconnd.system.machine import own_user

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from kconnd.cli.command_line import Arguments
    from kconnd.client import Client

    InstalledSpec = dict[str, str]  # name, profile and path; display_name of a new one

LOGOS = ("logo-32x32.png", "logo-64x64.png", "logo-svg.svg")


def kernelspec(arguments: Arguments) -> int:
    """Write, remove or list kernel specs for profiles, or probe the software of kernels."""
    if arguments.action == "probe":
        from kconnd.cli.software_probe import probe  # noqa: PLC0415  # for probe only

        return probe(arguments)
    if arguments.forget:
        raise UsageError(
            f"kernelspec {arguments.action}: --forget is an option of probe",
            hint="kconnd-ctl help kernelspec describes it",
        )
    folder = _kernels_folder(arguments.prefix)
    if arguments.action == "list":
        return _print_specs(arguments, "kernelspecs", _installed_specs(folder))
    if not arguments.profiles and not arguments.all:
        raise UsageError(
            f"kernelspec {arguments.action}: PROFILE is missing", hint="name profiles, or add --all"
        )
    if arguments.action == "remove":
        profiles = None if arguments.all else arguments.profiles
        return _print_specs(arguments, "removed", _remove(folder, profiles))
    return _print_specs(arguments, "installed", _install(arguments, folder))


def _kernels_folder(prefix: str | None) -> Path:
    if prefix:
        return Path(prefix).absolute() / "share" / "jupyter" / "kernels"
    return Path(jupyter_data_dir(os.environ, own_user().home)) / "kernels"


def _install(arguments: Arguments, folder: Path) -> list[InstalledSpec]:
    client = client_for(arguments)
    rows = {row["name"]: row for row in client.get("/v1/profiles")["profiles"]}
    names = sorted(rows) if arguments.all else list(dict.fromkeys(arguments.profiles))
    if not names:
        raise NoSuchKernelError(
            "installing kernel specs: there is no profile",
            hint="write one (kconnd-ctl schema prints the format), or name a kernel: "
            "kconnd-ctl kernelspec install python3",
        )
    found = [rows.get(name) or _look_up_row(client, name) for name in names]
    selected = {_profile_of(name, row): row for name, row in zip(names, found, strict=True)}
    _check_names(selected, _installed_specs(folder))
    return [_write_spec(folder, name, row) for name, row in selected.items()]


def _look_up_row(client: Client, name: str) -> dict[str, Any]:
    """Look up a name that is not a profile: a kernel spec, or the kernel of another owner."""
    if "/" in name:
        return _foreign_row(client, name)
    try:
        rows = client.get(f"/v1/profiles?kernel={quote(name)}")["profiles"]
    except NoSuchKernelError as error:
        raise NoSuchKernelError(
            f"installing a kernel spec: {error.message}",
            hint=f"{error.hint}; a kernel that another user shares is named OWNER/NAME",
        ) from None
    except ElsewhereError:
        return _foreign_row(client, name)
    row: dict[str, Any] = rows[0] if rows else {}
    return row


def _foreign_row(client: Client, name: str) -> dict[str, Any]:
    """Look up another owner's kernel; return its name, its language and nothing else."""
    kernel = client.get(kernel_path(name))
    return {key: kernel[key] for key in ("name", "language") if key in kernel}


def _profile_of(name: str, row: dict[str, Any]) -> str:
    """Return the name that a kernel spec refers to; the user's spelling can be Jupyter's name."""
    return name_in_reply(name, row) if "name" in row else name


def _check_names(profiles: Iterable[str], installed: list[InstalledSpec]) -> None:
    """Refuse a profile whose spec would have the name of another profile's spec."""
    profile_of = {spec["name"]: spec["profile"] for spec in installed}
    for profile in profiles:
        owner = profile_of.setdefault(_spec_name(profile), profile)
        if owner != profile:
            raise UsageError(
                f"installing a kernel spec: {profile} and {owner} would both be named "
                f"{_spec_name(profile)}, since Jupyter uses lower case only",
                hint=f"rename one of them, or run kconnd-ctl kernelspec remove {owner}",
            )


def _write_spec(folder: Path, profile: str, row: dict[str, Any]) -> InstalledSpec:
    """Write a kernel spec and the kernel's logos; replace kernel.json atomically."""
    spec_folder = folder / _spec_name(profile)
    command = shutil.which("kconnd-ctl") or str(Path(sys.executable).with_name("kconnd-ctl"))
    content = provisioned_spec(profile, _shown_values(profile, row), command)
    try:
        spec_folder.mkdir(parents=True, exist_ok=True)
        temporary = spec_folder / ".kernel.json.part"
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        temporary.replace(spec_folder / "kernel.json")
        for logo in LOGOS if row.get("resource_dir") else ():
            source = Path(row["resource_dir"]) / logo
            if source.is_file():
                shutil.copyfile(source, spec_folder / logo)
    except OSError as error:
        raise KconndError(
            f"writing a kernel spec in {spec_folder}: {error.strerror}",
            hint="--user writes below your home, --prefix DIR into an environment of yours",
        ) from error
    return {
        "name": spec_folder.name,
        "profile": profile,
        "path": str(spec_folder),
        "display_name": content["display_name"],
    }


def _shown_values(profile: str, row: dict[str, Any]) -> KernelSpec:
    """Return the values that front ends show and use, from a profile's row in the daemon's reply.

    A profile that is written in a file is shown by its name, a kernel spec by its display name. An
    older daemon sends the language only.
    """
    return KernelSpec(
        name=profile,
        argv=(),
        language=str(row.get("language") or ""),
        display_name=profile if row.get("file") else str(row.get("display_name") or profile),
        interrupt_mode=str(row.get("interrupt_mode") or "signal"),
        metadata=row.get("metadata") or {},
    )


def _spec_name(profile: str) -> str:
    """Derive the name of a profile's spec: lower case, of the characters that Jupyter allows.

    The name of another owner can have any other character.
    """
    return PREFIX + re.sub("[^a-z0-9._-]", "-", profile.lower())


def _installed_specs(folder: Path) -> list[InstalledSpec]:
    specs = []
    for spec_folder in sorted(folder.glob(f"{PREFIX}*")):
        try:
            content = json.loads((spec_folder / "kernel.json").read_bytes())
            profile = content["metadata"]["kernel_provisioner"]["config"]["profile"]
        except (OSError, ValueError, KeyError, TypeError):
            continue  # kconnd did not write this spec, in spite of its name
        specs.append({"name": spec_folder.name, "profile": str(profile), "path": str(spec_folder)})
    return specs


def _kernel_of(name: str) -> str:
    """Return the kernel's name for a name that can be Jupyter's name of its kernel spec."""
    from kconnd.core.names import kernel_name  # noqa: PLC0415  # for this action only

    owner, slash, name = name.rpartition("/")
    return f"{owner}{slash}{kernel_name(name)}"


def _remove(folder: Path, profiles: list[str] | None) -> list[InstalledSpec]:
    installed = _installed_specs(folder)
    profiles = profiles and [_kernel_of(name) for name in profiles]
    for name in profiles or ():
        if name not in {spec["profile"] for spec in installed}:
            raise NoSuchKernelError(
                f"removing a kernel spec: {folder} has none for {name}",
                hint="kconnd-ctl kernelspec list shows them",
            )
    selected = [spec for spec in installed if profiles is None or spec["profile"] in profiles]
    for spec in selected:
        shutil.rmtree(spec["path"])
    return selected


def _print_specs(arguments: Arguments, change: str, specs: list[InstalledSpec]) -> int:
    if arguments.json:
        from kconnd.cli.render import print_json  # noqa: PLC0415  # for --json only

        print_json({change: specs})
        return 0
    label = "" if change == "kernelspecs" else f"{change}: "  # the list needs none
    for spec in specs:
        print(f"{spec['profile']}: {label}{spec['path']}")
    if change == "installed" and specs:
        first = specs[0]
        print(f"\nJupyter shows {first['profile']} as '{first['display_name']}';")
        print(f"its name in papermill and nbclient is {first['name']}.")
    return 0
