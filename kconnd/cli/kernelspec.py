"""``kconnd-ctl kernelspec``: kernel specs by which Jupyter finds profiles, written and removed."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

from kconnd.cli.batch import client_for
from kconnd.client import kernel_path
from kconnd.core.launch.kernelspec_file import PREFIX, provisioned_spec
from kconnd.core.paths import jupyter_data_dir
from kconnd.core.protocol.request_head import quote
from kconnd.errors import ElsewhereError, KconndError, NoSuchKernelError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from kconnd.cli.command_line import Arguments
    from kconnd.client import Client

LOGOS = ("logo-32x32.png", "logo-64x64.png", "logo-svg.svg")


def kernelspec(arguments: Arguments) -> int:
    """Write, remove or list kernel specs for profiles."""
    folder = _folder(arguments.prefix)
    if arguments.action == "list":
        return _show(arguments, "kernelspecs", _installed(folder))
    if not arguments.profiles and not arguments.all:
        raise UsageError(
            f"{arguments.action}: no profile is named", hint="name some, or write --all"
        )
    if arguments.action == "remove":
        return _show(
            arguments, "removed", _remove(folder, None if arguments.all else arguments.profiles)
        )
    return _show(arguments, "installed", _install(arguments, folder))


def _folder(prefix: str | None) -> Path:
    if prefix:
        return Path(prefix).absolute() / "share" / "jupyter" / "kernels"
    return Path(jupyter_data_dir(os.environ, str(Path.home()))) / "kernels"


def _install(arguments: Arguments, folder: Path) -> list[dict[str, str]]:
    client = client_for(arguments)
    known = {row["name"]: row for row in client.get("/v1/profiles")["profiles"]}
    wanted = sorted(known) if arguments.all else list(dict.fromkeys(arguments.profiles))
    if not wanted:
        raise NoSuchKernelError(
            "installing kernel specs: there is no profile",
            hint="write one (kconnd-ctl schema tells how), or name a kernel: "
            "kconnd-ctl kernelspec install python3",
        )
    rows = {name: known.get(name) or _row(client, name) for name in wanted}
    _check_names(rows, _installed(folder))
    return [_write(folder, name, row) for name, row in rows.items()]


def _row(client: Client, name: str) -> dict[str, Any]:
    """Learn about a kernel that no profile of ours names: a kernel spec's, or another owner's."""
    if "/" in name:
        return _foreign_row(client, name)
    try:
        found = client.get(f"/v1/profiles?kernel={quote(name)}")["profiles"]
    except NoSuchKernelError as error:
        raise NoSuchKernelError(
            f"installing a kernel spec: {error.message}",
            hint=f"{error.hint}; one that another user shares is OWNER/NAME",
        ) from None
    except ElsewhereError:
        return _foreign_row(client, name)
    row: dict[str, Any] = found[0] if found else {}
    return row


def _foreign_row(client: Client, name: str) -> dict[str, Any]:
    """Give what is taken from another owner's daemon: the language, and no path."""
    return {"language": client.get(kernel_path(name))["language"]}


def _check_names(profiles: Iterable[str], there: list[dict[str, str]]) -> None:
    """Refuse to write one spec for two profiles, since the latter would hide the former."""
    taken = {spec["name"]: spec["profile"] for spec in there}
    for profile in profiles:
        other = taken.setdefault(_spec_name(profile), profile)
        if other != profile:
            raise UsageError(
                f"installing a kernel spec: {profile} and {other} would both be "
                f"{_spec_name(profile)}, since Jupyter knows lower case alone",
                hint=f"rename one of them; or kconnd-ctl kernelspec remove {other}",
            )


def _write(folder: Path, profile: str, row: dict[str, Any]) -> dict[str, str]:
    """Write one spec; its file is complete or absent, and logos are the kernel's own."""
    place = folder / _spec_name(profile)
    command = shutil.which("kconnd-ctl") or str(Path(sys.executable).with_name("kconnd-ctl"))
    content = provisioned_spec(profile, str(row.get("language") or ""), command)
    try:
        place.mkdir(parents=True, exist_ok=True)
        part = place / ".kernel.json.part"
        part.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        part.replace(place / "kernel.json")
        for logo in LOGOS if row.get("resource_dir") else ():
            source = Path(row["resource_dir"]) / logo
            if source.is_file():
                shutil.copyfile(source, place / logo)
    except OSError as error:
        raise KconndError(
            f"writing a kernel spec in {place}: {error.strerror}",
            hint="--user writes below your home, --prefix DIR into an environment of yours",
        ) from error
    return {"name": place.name, "profile": profile, "path": str(place)}


def _spec_name(profile: str) -> str:
    """Name a spec; Jupyter knows lower case alone, and no slash or @."""
    return PREFIX + profile.lower().replace("/", "-").replace("@", "-")


def _installed(folder: Path) -> list[dict[str, str]]:
    found = []
    for place in sorted(folder.glob(f"{PREFIX}*")):
        try:
            content = json.loads((place / "kernel.json").read_bytes())
            profile = content["metadata"]["kernel_provisioner"]["config"]["profile"]
        except (OSError, ValueError, KeyError, TypeError):
            continue  # not one of ours, whatever it is called
        found.append({"name": place.name, "profile": str(profile), "path": str(place)})
    return found


def _remove(folder: Path, profiles: list[str] | None) -> list[dict[str, str]]:
    there = _installed(folder)
    for name in profiles or ():
        if name not in {spec["profile"] for spec in there}:
            raise NoSuchKernelError(
                f"removing a kernel spec: {folder} has none for {name}",
                hint="kconnd-ctl kernelspec list shows them",
            )
    chosen = [spec for spec in there if profiles is None or spec["profile"] in profiles]
    for spec in chosen:
        shutil.rmtree(spec["path"])
    return chosen


def _show(arguments: Arguments, what: str, specs: list[dict[str, str]]) -> int:
    if arguments.json:
        from kconnd.cli.render import print_json  # noqa: PLC0415  # only for this

        print_json({what: specs})
    else:
        for spec in specs:
            print(f"{spec['profile']}: {what}: {spec['path']}")
        if what == "installed" and specs:
            print(f"\nJupyter shows it as '{specs[0]['profile']} (kconnd)';")
            print(f"papermill and nbclient take it as {specs[0]['name']}.")
    return 0
