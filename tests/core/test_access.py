"""Who may do what: each cell of the table of rights."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kconnd.core.access import ADMIN_GROUP, Peer, Right, describe_managers, may
from kconnd.core.profile.model import Access

OWNER = 1000
RULES = Access(see=("ada", "@lab"), connect=("bob",), manage=("@ops",))
PEERS = {
    "owner": Peer(OWNER, 1, "own"),
    "root": Peer(0, 1, "root"),
    "admin": Peer(1001, 1, "eve", frozenset({ADMIN_GROUP})),
    "ada": Peer(1002, 1, "ada"),
    "in lab": Peer(1003, 1, "x", frozenset({"lab", "users"})),
    "bob": Peer(1004, 1, "bob"),
    "in ops": Peer(1005, 1, "y", frozenset({"ops"})),
    "nobody": Peer(1006, 1, "z", frozenset({"users"})),
    "nameless": Peer(1007, 1),
    "called @lab": Peer(1008, 1, "@lab"),
}


@pytest.mark.parametrize(
    ("who", "highest"),
    [
        ("owner", Right.MANAGE),
        ("root", Right.MANAGE),
        ("admin", Right.MANAGE),
        ("ada", Right.SEE),
        ("in lab", Right.SEE),
        ("bob", Right.CONNECT),
        ("in ops", Right.MANAGE),
        ("nobody", 0),
        ("nameless", 0),
        ("called @lab", 0),
    ],
)
@pytest.mark.parametrize("right", Right)
def test_each_cell_of_the_table(who: str, highest: int, right: Right) -> None:
    assert may(PEERS[who], right, owner=OWNER, rules=RULES) is (right <= highest)


@pytest.mark.parametrize("who", PEERS)
@pytest.mark.parametrize("right", Right)
def test_without_rules_a_kernel_is_its_owners(who: str, right: Right) -> None:
    allowed = who in {"owner", "root", "admin"}
    assert may(PEERS[who], right, owner=OWNER) is allowed
    assert may(PEERS[who], right, owner=OWNER, rules=Access()) is allowed


NAMES = st.sampled_from(["a", "b", "@g", "@h"])
MANY = st.lists(NAMES, max_size=3).map(tuple)


@given(
    st.sampled_from(["a", "b", "c", ""]),
    st.frozensets(st.sampled_from(["g", "h", "i"])),
    st.builds(Access, see=MANY, connect=MANY, manage=MANY),
)
def test_a_right_includes_those_before_it(name: str, groups: frozenset[str], rules: Access) -> None:
    peer = Peer(1234, 1, name, groups)
    granted = [may(peer, right, owner=OWNER, rules=rules) for right in Right]
    assert granted == sorted(granted, reverse=True)
    members = {*rules.see, *rules.connect, *rules.manage}
    mine = {name} | {f"@{group}" for group in groups}
    assert granted[0] == bool(members & mine)


def test_the_managers_are_listed_once_each() -> None:
    assert describe_managers("own", None) == "own"
    assert describe_managers("own", RULES) == "own or the group ops"
    assert describe_managers("own", Access(manage=("own", "b", "@c"))) == "own, b or the group c"
