"""The OpenAPI document of a small route table."""

from kconnd.core.access import Right
from kconnd.system.http.openapi import document
from kconnd.system.http.route_table import Parameter, Reply, Route


async def _see(_request: object) -> Reply:
    """Show a kernel.

    And more about it.
    """
    return {}


async def _change(_request: object) -> Reply:
    """Change a kernel."""
    return {}


LINES = Parameter("lines", "integer", "How many lines.")
PATH = "/v1/kernels/{name}"
ROUTES = (
    Route("GET", PATH, Right.SEE, _see, (LINES,), streams=True),
    Route("POST", PATH, Right.MANAGE, _change, (LINES,)),
    Route("POST", "/v1/reload", Right.MANAGE, _change),
)


def test_each_route_is_an_operation_of_its_path() -> None:
    paths = document(ROUTES)["paths"]
    assert {path: [*methods] for path, methods in paths.items()} == {
        PATH: ["get", "post"],
        "/v1/reload": ["post"],
    }
    see, change = paths[PATH]["get"], paths[PATH]["post"]
    assert (see["operationId"], see["summary"]) == ("see", "Show a kernel.")
    assert "manage" in change["description"]
    assert [*see["responses"]["200"]["content"]] == ["application/jsonlines"]


def test_parameters_are_in_the_path_the_query_or_the_body() -> None:
    paths = document(ROUTES)["paths"]
    see, change = paths[PATH]["get"], paths[PATH]["post"]
    assert [(row["name"], row["in"]) for row in see["parameters"]] == [
        ("name", "path"),
        ("lines", "query"),
    ]
    assert [row["name"] for row in change["parameters"]] == ["name"]
    schema = change["requestBody"]["content"]["application/json"]["schema"]
    assert schema["properties"]["lines"]["type"] == "integer"
    assert "requestBody" not in paths["/v1/reload"]["post"]
