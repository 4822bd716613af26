"""Whatever tree a file describes, its nodes get places that a conversation can hold."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.domain.porting.talks import Node, Talk
from service.domain.porting.trees import Order, Stood, leads_to, place_all, untangle
from service.domain.tree import Place

NAMES = st.sampled_from("abcdefgh")
LINKS = st.lists(st.tuples(NAMES, st.none() | NAMES | st.just("gone")), max_size=12)


def talk(*links: tuple[str, str | None], leaf: str | None = None, dropped: dict[str, str | None] | None = None) -> Talk:
    made = Talk("test", "t", leaf=leaf, dropped=dropped or {})
    made.nodes = [Node(name, parent, "user", name) for name, parent in links]
    return made


def places(order: Order, stood: list[Stood] | None = None) -> dict[str, Place]:
    have = {one.name for one in stood or ()}
    ids = {node.source_id: 100 + index for index, node in enumerate(order.given) if node.source_id not in have}
    return place_all(order, ids, stood or [])


def check(found: dict[str, Place], order: Order) -> None:
    """The rules of docs/decisions/0004: parents first, a depth below them, and no two in one place."""
    spots = [(one.line_id, one.depth) for one in found.values()]
    assert len(set(spots)) == len(spots)
    seen: dict[int, Place] = {}
    for name, here in found.items():
        above = order.parents[name]
        if above is None:
            assert (here.parent_id, here.depth, here.line_id) == (None, 0, here.id)
        else:
            parent = seen[here.parent_id or 0]
            assert (parent, here.depth) == (found[above], parent.depth + 1)
            assert here.line_id in (parent.line_id, here.id)
        seen[here.id] = here


@given(LINKS, st.dictionaries(st.sampled_from("ghijk"), st.none() | NAMES, max_size=4))
@settings(max_examples=400, deadline=None)
def test_any_links_become_a_tree(links: list[tuple[str, str | None]], dropped: dict[str, str | None]) -> None:
    made = talk(*links, dropped=dropped)
    order = untangle(made)
    assert {node.source_id for node in order.nodes} == {name for name, _ in links}
    assert len(order.nodes) == len(order.given)
    check(places(order), order)


@pytest.mark.parametrize(
    ("links", "kind", "roots"),
    [
        ([("a", "b"), ("b", "a"), ("c", "b")], "circle", 1),
        ([("a", "a")], "circle", 1),
        ([("a", "b"), ("b", "c"), ("c", "b"), ("d", "e"), ("e", "d")], "circle", 2),
        ([("a", "gone"), ("b", "a")], "missing_parent", 1),
        ([("a", None), ("a", None)], "duplicate_id", 1),
    ],
)
def test_what_is_broken_is_mended_and_counted(links: list[Any], kind: str, roots: int) -> None:
    order = untangle(talk(*links))
    assert set(order.repaired) == {kind}
    assert list(order.parents.values()).count(None) == roots


def test_first_children_go_on_with_the_line_and_others_open_one() -> None:
    order = untangle(talk(("q", None), ("a1", "q"), ("a2", "q"), ("b1", "a1"), ("b2", "a2")))
    found = {name: (one.line_id, one.depth) for name, one in places(order).items()}
    assert found == {"q": (100, 0), "a1": (100, 1), "a2": (102, 1), "b1": (100, 2), "b2": (102, 2)}


def test_what_follows_a_dropped_node_goes_on_after_the_nearest_kept_one() -> None:
    made = talk(
        ("a", "root"), ("b", "empty"), leaf="tail", dropped={"root": None, "empty": "e2", "e2": "a", "tail": "b"}
    )
    order = untangle(made)
    assert order.parents == {"a": None, "b": "a"}
    assert order.leaf == "b"
    assert not order.repaired


def test_dropped_nodes_in_a_circle_lead_nowhere() -> None:
    order = untangle(talk(("a", "x"), ("b", "y"), dropped={"x": "y", "y": "x"}))
    assert order.parents == {"a": None, "b": None}


@pytest.mark.parametrize("dropped", [False, True])
def test_a_chain_of_a_hundred_thousand_is_no_deeper_than_one(dropped: bool) -> None:
    names = [str(number) for number in range(100_000)]
    chain = list(zip(names, [None, *names], strict=False))
    if dropped:
        order = untangle(talk(("last", names[-1]), dropped=dict(chain)))
        assert order.parents == {"last": None}
        return
    order = untangle(talk(*reversed(chain), leaf=names[-1]))
    found = places(order)
    assert [node.source_id for node in order.nodes] == names
    assert found[names[-1]].depth == 99_999
    assert len({one.line_id for one in found.values()}) == 1


def test_new_nodes_find_their_places_among_those_that_stand() -> None:
    stood = [Stood("q", 1, None, 1, 0), Stood("a", 2, 1, 1, 1)]
    order = untangle(talk(("q", None), ("a", "q"), ("b", "a"), ("a2", "q"), ("c", "a2")), [one.name for one in stood])
    found = {name: (one.parent_id, one.line_id, one.depth) for name, one in places(order, stood).items()}
    assert found == {"b": (2, 1, 2), "a2": (1, 103, 1), "c": (103, 103, 2)}


def test_a_leaf_follows_only_forward() -> None:
    parents = {1: None, 2: 1, 3: 2, 4: 1}
    assert leads_to(parents, 3, start=2)
    assert leads_to(parents, 3, start=3)
    assert leads_to(parents, 3, start=None)
    assert not leads_to(parents, 3, start=4)
    assert not leads_to(parents, None, start=2)
