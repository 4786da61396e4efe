"""A hostile owner's reply cannot redirect the client to another socket, owner or path."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from kconnd.cli.main import main
from kconnd.client import Client, kernel_path
from kconnd.errors import ElsewhereError, KconndError, NoSuchKernelError, UsageError
from tests.cli.fake_daemon import STOPPED, kernel
from tests.hostile_owner.machine import ADA, EVE, ME, NAME, Machine, uid_of

ONCE = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
# What names an owner, and what would be something else where it is not checked.
OWNERS = st.one_of(
    st.sampled_from(
        [
            *(ADA, "root", str(uid_of(ADA)), str(ME), "self", "", " ", "..", "/", "%2F", "\x00"),
            *(
                "../../v1/boot",
                f"{ADA}/open HTTP/1.1",
                "a b",
                "a\r\nX: y",
                "a\n\n",
                "٣",
                "x" * 9999,
            ),
            f"{ADA}/open HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\nPOST /v1/boot",
        ]
    ),
    st.text(),
)
VERBS = st.sampled_from(["", "why", "connection", "start", "stop", "restart", "interrupt"])


def elsewhere(owner: object) -> ElsewhereError:
    error = ElsewhereError("it is a kernel of somebody else", hint="ask there")
    error.owner = owner  # type: ignore[assignment]  # a reply can have anything
    return error


def ask(client: Client, name: str, verb: str) -> Any:
    """Send the request of a verb."""
    path = kernel_path(name, verb)
    if verb in {"", "why", "connection"}:
        return client.get(path)
    return client.post(path, {"wait": True})


@ONCE
@given(OWNERS, VERBS)
def test_an_owner_who_was_named_redirects_nobody(machine: Machine, owner: str, verb: str) -> None:
    machine.clear()
    machine.eve.replies = dict.fromkeys(
        ((method, kernel_path(NAME, verb)) for method in ("GET", "POST")), elsewhere(owner)
    )
    with machine.watched() as seen, pytest.raises(ElsewhereError) as caught:
        ask(machine.client, f"{EVE}/{NAME}", verb)
    assert caught.value.owner == ""
    assert len(machine.eve.requests) == 1
    assert machine.own.requests == machine.ada.requests == []
    machine.asked_for_eve()
    assert set(seen.connected) == {str(machine.front.path), str(machine.eve.path)}


@ONCE
@given(OWNERS)
@example("x")
def test_nor_in_place_of_a_stream(machine: Machine, owner: str) -> None:
    machine.clear()
    machine.eve.replies["GET", kernel_path(NAME, "logs")] = elsewhere(owner)
    with pytest.raises(ElsewhereError):
        list(machine.client.stream(kernel_path(f"{EVE}/{NAME}", "logs")))
    assert machine.own.requests == machine.ada.requests == []
    machine.asked_for_eve()


@ONCE
@given(OWNERS)
def test_the_owner_that_ones_own_daemon_names_redirects_no_further(
    machine: Machine, owner: str
) -> None:
    machine.clear()
    machine.own.replies["GET", kernel_path(NAME)] = elsewhere(EVE)
    machine.eve.replies["GET", kernel_path(NAME)] = elsewhere(owner)
    with pytest.raises(ElsewhereError):
        machine.client.get(kernel_path(NAME))
    assert (len(machine.own.requests), len(machine.eve.requests)) == (1, 1)
    assert machine.ada.requests == []
    machine.asked_for_eve()


@ONCE
@given(OWNERS.filter(lambda owner: owner != "root" and not owner.isalnum()))
@example("٣")  # a digit in Unicode, and no name
def test_an_owner_whom_the_system_does_not_know_is_not_asked_for(
    machine: Machine, owner: str
) -> None:
    """The caller's own daemon is trusted, but no text of its reply becomes a path."""
    machine.clear()
    machine.own.replies["GET", kernel_path(NAME)] = elsewhere(owner)
    with machine.watched() as seen, contextlib.suppress(NoSuchKernelError, ElsewhereError):
        machine.client.get(kernel_path(NAME))
        pytest.fail("it gave a reply")
    assert machine.front.requests == machine.eve.requests == machine.ada.requests == []
    assert set(seen.connected) == {str(machine.own.path)}


@pytest.mark.parametrize("path", ["/v1/profiles?kernel=lab", "/v1/kernels", "/v1/health"])
def test_only_a_request_for_a_kernel_is_redirected(machine: Machine, path: str) -> None:
    machine.own.replies["GET", path.partition("?")[0]] = elsewhere(EVE)
    with pytest.raises(ElsewhereError):
        machine.client.get(path)
    assert machine.front.requests == machine.eve.requests == []


def test_a_bare_name_is_followed_once_from_ones_own_daemon(machine: Machine) -> None:
    machine.own.replies["POST", kernel_path(NAME, "start")] = elsewhere(EVE)
    machine.eve.replies["POST", kernel_path(NAME, "start")] = kernel(NAME, owner=EVE)
    assert machine.client.post(kernel_path(NAME, "start"))["name"] == NAME
    assert machine.eve.asked() == [("POST", "/v1/kernels/lab/start")]
    machine.asked_for_eve()


def test_what_the_front_door_replies_names_no_socket(machine: Machine) -> None:
    """The path of an owner's socket is derived from the uid alone."""
    machine.eve.replies["GET", kernel_path(NAME)] = kernel(NAME, **STOPPED)
    assert machine.client.get(kernel_path(str(uid_of(EVE)) + "/" + NAME))["state"] == "stopped"
    machine.asked_for_eve()


@pytest.mark.parametrize(
    "path",
    ["/v1/x y", "/v1/x\r\nA: b", "/v1/x\n", "/v1/\x00", "/v1/ä", "v1", "", "/v1/\x85", "/" * 99999],
)
def test_what_cannot_stand_in_a_request_line_is_named_and_not_sent(
    machine: Machine, path: str
) -> None:
    for send in (machine.client.get, machine.client.post, lambda it: [*machine.client.stream(it)]):
        with pytest.raises(UsageError, match="so nothing was sent") as caught:
            send(path)
        assert ascii(path[:20])[1:-1] in caught.value.message
    with pytest.raises(UsageError, match="so nothing was sent"):
        machine.client.request("GET /v1/boot HTTP/1.1\r\nX:", "/v1/health")
    assert machine.own.requests == []


def test_a_slash_in_a_query_names_no_owner(machine: Machine) -> None:
    machine.own.replies["GET", "/v1/kernels/lab/logs"] = {"text": "x"}
    assert machine.client.get(f"/v1/kernels/lab/logs?x={ADA}%2Flab") == {"text": "x"}
    assert machine.front.requests == machine.ada.requests == []


@pytest.mark.parametrize("name", ["%ZZ/lab", "%/lab", "%C3/lab"])
def test_an_owner_that_is_not_quoted_is_refused(machine: Machine, name: str) -> None:
    with pytest.raises(UsageError):
        machine.client.get(f"/v1/kernels/{name.replace('/', '%2F')}")
    assert machine.front.requests == []


@pytest.mark.skipif(ME != 0, reason="of root alone the peer's uid does not say whose socket it is")
def test_a_socket_that_was_named_is_its_owners_whoever_made_it(machine: Machine) -> None:
    machine.eve.replies["GET", kernel_path(NAME)] = elsewhere(ADA)
    with pytest.raises(ElsewhereError):
        Client(str(machine.eve.path)).get(kernel_path(NAME))
    assert machine.front.requests == machine.ada.requests == []


def test_without_a_front_door_nothing_is_redirected(machine: Machine) -> None:
    machine.front.path.unlink()
    machine.own.replies["GET", kernel_path(NAME)] = elsewhere(EVE)
    with pytest.raises(KconndError):
        Client(str(machine.own.path)).get(kernel_path(NAME))
    assert machine.eve.requests == []


@pytest.mark.parametrize("name", [NAME, f"{EVE}/{NAME}"])
def test_a_kernel_spec_takes_the_language_of_a_strangers_kernel_and_no_file(
    machine: Machine, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    logos = machine.folder / "canary"
    logos.mkdir()
    (logos / "logo-svg.svg").write_text("<svg/>", encoding="utf-8")
    machine.own.replies["GET", "/v1/profiles"] = lambda request: (
        elsewhere(EVE) if request.query else {"profiles": []}
    )
    machine.own.replies["GET", kernel_path(NAME)] = elsewhere(EVE)
    said = {"language": "python", "resource_dir": str(logos)}
    machine.eve.replies["GET", kernel_path(NAME)] = kernel(NAME, **said)
    machine.eve.replies["GET", "/v1/profiles"] = {"profiles": [said]}
    prefix = machine.folder / "prefix"
    with machine.watched() as seen:
        assert main(["kernelspec", "install", name, "--prefix", str(prefix)]) == 0
    assert "installed" in capsys.readouterr().out
    (written,) = [path for path in prefix.rglob("*") if path.is_file()]
    assert json.loads(written.read_bytes())["language"] == "python"
    assert not [path for path in seen.opened if "canary" in path]
    assert machine.eve.asked() == [("GET", f"/v1/kernels/{NAME}")]
