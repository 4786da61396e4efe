"""The JSON Schema of a profile file, for editors that complete keys and mark faults.

pydantic derives most of the schema from the models. This module adds two rules that the models do
not express: a profile has exactly one of the keys kernel, python and argv, and a file can contain
several profiles.
"""

from typing import Any

from kconnd.core.names import NAME_PATTERN
from kconnd.core.profile.model import Profile


def profile_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a profile file."""
    profile = Profile.model_json_schema()
    parts = profile.pop("$defs")
    profile["required"] = []
    profile["oneOf"] = [{"required": [key]} for key in ("kernel", "python", "argv")]
    many = {
        "type": "object",
        "description": "Several kernels in one file, by name.",
        "minProperties": 1,
        "propertyNames": {"pattern": f"^{NAME_PATTERN}$"},
        "additionalProperties": {"$ref": "#/$defs/Profile"},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A file of kconnd profiles",
        "anyOf": [
            {"$ref": "#/$defs/Profile"},
            {
                "type": "object",
                "properties": {"kernels": many},
                "required": ["kernels"],
                "additionalProperties": False,
            },
        ],
        "$defs": {**parts, "Profile": profile},
    }
