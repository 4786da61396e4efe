"""Parses a profile from the plain values of a YAML file, and collects all faults in one run.

How it works. pydantic validates each key by its type (`model`) and lists all errors.
`problems.problem_of` converts each error to a `Problem`. Then the rows of `rules.RULES` check the
keys against each other. A profile with faulty keys is validated a second time without these keys,
so that the rules can check the valid keys. A rule that reads a faulty key is skipped, because the
rule would check the key's default instead of the value in the file. A rule is also skipped if it
reads a key that the author probably misspelt.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from kconnd.core.profile.model import Profile, Section
from kconnd.core.profile.problems import (
    UNKNOWN_KEY,
    KeyPath,
    Problem,
    closest,
    format_path,
    problem_of,
)
from kconnd.core.profile.rules import RULES, Rule


def parse_profile(
    keys: Mapping[str, object], *, name: str
) -> tuple[Profile | None, tuple[Problem, ...]]:
    """Parse a profile from plain values.

    Parameters
    ----------
    keys : mapping
        The keys and values of the file.
    name : str
        The profile's name if ``keys`` contains no ``name``.

    Returns
    -------
    tuple
        The profile and no problems, or None and all problems.
    """
    data = {"name": name, **keys}
    profile, errors = _validate(data)
    problems = tuple(map(_problem, errors))
    unsure = {_key(problem.path) for problem in problems} | _intended_keys(problems)
    checked = profile or _validate(_without(data, unsure))[0]
    problems += tuple(map(_contradiction, _broken_rules(checked, unsure)))
    return (None, problems) if problems else (profile, ())


def allowed_keys(path: KeyPath) -> tuple[str, ...]:
    """Return the keys that are allowed in a section of a profile.

    The path ``()`` is the whole profile; ``("restart",)`` is the mapping ``restart``.
    """
    fields = Profile.model_fields
    if not path:
        return (*fields, "kernels")
    kind = fields[str(path[0])].annotation if path[0] in fields else None
    return tuple(kind.model_fields) if isinstance(kind, type) and issubclass(kind, Section) else ()


def _validate(data: Mapping[str, object]) -> tuple[Profile | None, list[Any]]:
    try:
        return Profile.model_validate(data), []
    except ValidationError as error:
        return None, list(error.errors(include_url=False))


def _problem(error: Mapping[str, Any]) -> Problem:
    path: KeyPath = error["loc"]
    section = path[:-1] if error["type"] == "extra_forbidden" else path
    return problem_of(error, path, allowed_keys(section))


def _broken_rules(profile: Profile | None, unsure: set[str]) -> Iterable[Rule]:
    """Yield each broken rule that reads no key in ``unsure``.

    The keys in ``unsure`` are faulty, or the author has probably misspelt them.
    """
    if profile is None:
        return
    for rule in RULES:
        if unsure.isdisjoint(_with_sections(rule.keys)) and rule.broken(profile):
            yield rule


def _contradiction(rule: Rule) -> Problem:
    path = tuple(rule.keys[0].split(".")) if rule.keys[0] else ()
    return Problem(path, rule.message, rule.hint, on_key=True)


def _key(path: KeyPath) -> str:
    """Return the key of a path: ``restart.policy`` in a section, else the top-level key."""
    return format_path(path[: 2 if allowed_keys(path[:1]) else 1]) if path else ""


def _with_sections(keys: tuple[str, ...]) -> set[str]:
    return {*keys, *(key.partition(".")[0] for key in keys)}


def _intended_keys(problems: Iterable[Problem]) -> set[str]:
    """Return the known keys that the author probably meant by unknown keys."""
    unknown = (problem.path for problem in problems if problem.message == UNKNOWN_KEY)
    return {_key((*path[:-1], closest(str(path[-1]), allowed_keys(path[:-1])))) for path in unknown}


def _without(data: Mapping[str, object], unsure: set[str]) -> dict[str, object]:
    """Return the data without keys in ``unsure``; a placeholder replaces an omitted ``name``."""
    sound: dict[str, object] = {"name": "unnamed"}
    for key, value in data.items():
        if key in unsure:
            continue
        if isinstance(value, Mapping) and allowed_keys((key,)):
            sound[key] = {k: v for k, v in value.items() if f"{key}.{k}" not in unsure}
        else:
            sound[key] = value
    return sound
