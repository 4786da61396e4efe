"""Describe the route table as an OpenAPI 3.1 document, for the authors of other clients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import kconnd

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kconnd.system.http.route_table import Parameter, Route

ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message", "hint"],
            "properties": {
                "code": {"type": "string"},
                "message": {"type": "string"},
                "hint": {"type": "string"},
                "output": {"type": "string"},
                "owner": {"type": "string"},
            },
        }
    },
}


def document(routes: Iterable[Route]) -> dict[str, Any]:
    """Return an OpenAPI 3.1 document of some routes."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "kconnd", "version": kconnd.__version__},
        "servers": [{"url": "http://localhost", "description": "a Unix socket"}],
        "paths": paths,
        "components": {"schemas": {"Error": ERROR}},
    }


def _operation(route: Route) -> dict[str, Any]:
    kind = "application/jsonlines" if route.streams else "application/json"
    operation: dict[str, Any] = {
        "operationId": route.function.__name__.strip("_"),
        "summary": route.about,
        "description": f"Needs the right to {route.right.name.lower()}.",
        "parameters": _parameters(route),
        "responses": {
            "200": {"description": "Success.", "content": {kind: {"schema": {"type": "object"}}}},
            "default": {
                "description": "The request failed; the error says why.",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
            },
        },
    }
    if route.method == "POST" and route.parameters:
        operation["requestBody"] = {
            "content": {"application/json": {"schema": _body_schema(route.parameters)}}
        }
    return operation


def _parameters(route: Route) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    if "{name}" in route.path:
        rows.append({"name": "name", "in": "path", "required": True, "schema": {"type": "string"}})
    if route.method == "GET":
        rows += [
            {
                "name": parameter.name,
                "in": "query",
                "description": parameter.about,
                "schema": {"type": parameter.kind},
            }
            for parameter in route.parameters
        ]
    return rows


def _body_schema(parameters: tuple[Parameter, ...]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {
            parameter.name: {"type": parameter.kind, "description": parameter.about}
            for parameter in parameters
        },
    }
