"""The properties of a route that follow from its row."""

import pytest

from kconnd.core.access import Right
from kconnd.system.http.route_table import Reply, Route


async def function(_request: object) -> Reply:
    """Do something.

    With care.
    """
    return {}


@pytest.mark.parametrize(
    ("method", "path", "is_audited"),
    [
        ("GET", "/v1/kernels", False),
        ("GET", "/v1/kernels/{name}", False),
        ("GET", "/v1/kernels/{name}/connection", True),
        ("POST", "/v1/reload", True),
    ],
)
def test_each_change_and_each_disclosed_key_is_audited(
    method: str, path: str, is_audited: object
) -> None:
    assert Route(method, path, Right.SEE, function).audited is is_audited


def test_the_first_line_of_its_function_describes_a_route() -> None:
    assert Route("GET", "/v1/kernels", Right.SEE, function).about == "Do something."
