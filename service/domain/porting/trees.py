"""From a foreign tree, which may be broken, to places in a conversation. Nothing here recurses: talks are deep."""

from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from service.domain.porting.talks import Node, Talk
from service.domain.tree import Place, Position, place


@dataclass(frozen=True, slots=True)
class Stood:
    """A message that the conversation has already, by the name that its source gave it."""

    name: str
    id: int
    parent_id: int | None
    line_id: int
    depth: int


@dataclass(slots=True)
class Order:
    """The kept nodes, parents first, each with its parent; `given` has them in the file's order.

    `repaired` counts what had to be guessed, by kind.
    """

    nodes: list[Node]
    given: list[Node]
    parents: dict[str, str | None]
    leaf: str | None
    repaired: Counter[str] = field(default_factory=Counter)


def untangle(talk: Talk, known: Iterable[str] = ()) -> Order:
    """Bring a tree into an order in which it can be stored.

    A node that names an unknown parent becomes a root, a circle is opened at one of its nodes, and of two nodes with
    one name the first counts. `known` are names that the conversation has already.
    """
    repaired: Counter[str] = Counter()
    nodes: dict[str, Node] = {}
    for node in talk.nodes:
        if node.source_id in nodes:
            repaired["duplicate_id"] += 1
        nodes.setdefault(node.source_id, node)
    resolve = _Resolver(talk.dropped)
    parents: dict[str, str | None] = {}
    has = {*nodes, *known}
    for name, node in nodes.items():
        parent = resolve(node.parent)
        if parent is not None and parent not in has:
            repaired["missing_parent"] += 1
            parent = None
        parents[name] = parent
    order = _parents_first(parents, repaired)
    leaf = resolve(talk.leaf)
    if leaf not in has:
        leaf = talk.nodes[-1].source_id if talk.nodes and not (talk.exact and talk.leaf is None) else None
    return Order([nodes[name] for name in order], list(nodes.values()), parents, leaf, repaired)


def place_all(order: Order, ids: Mapping[str, int], stood: Sequence[Stood] = ()) -> dict[str, Place]:
    """The places of the nodes that have an id, in their order; the others stand already."""
    at = {one.name: (one.id, one.line_id, one.depth) for one in stood}
    taken = {(one.line_id, one.depth) for one in stood}
    placed: dict[str, Place] = {}
    for node in order.nodes:
        name = node.source_id
        if name not in ids:
            continue
        above = order.parents[name]
        here = place(_position(at[above], taken) if above is not None else None, [ids[name]])[0]
        at[name] = (here.id, here.line_id, here.depth)
        taken.add((here.line_id, here.depth))
        placed[name] = here
    return placed


def leads_to(parents: Mapping[int, int | None], leaf: int | None, *, start: int | None) -> bool:
    """Whether a branch that ends in `leaf` runs through `start`, so that going there is only going on."""
    if start is None:
        return True
    while leaf is not None and leaf != start:
        leaf = parents.get(leaf)
    return leaf == start


class _Resolver:
    """The nearest kept ancestor of a name; each chain of dropped nodes is walked once."""

    def __init__(self, dropped: Mapping[str, str | None]) -> None:
        self._dropped = dropped
        self._known: dict[str, str | None] = {}

    def __call__(self, name: str | None) -> str | None:
        path: list[str] = []
        while name is not None and name in self._dropped:
            if name in self._known:
                name = self._known[name]
                break
            # Whoever comes here again on the same walk goes in a circle, and finds no ancestor.
            self._known[name] = None
            path.append(name)
            name = self._dropped[name]
        self._known.update(dict.fromkeys(path, name))
        return name


def _position(at: tuple[int, int, int], taken: set[tuple[int, int]]) -> Position:
    number, line_id, depth = at
    return Position(number, line_id, depth, (line_id, depth + 1) not in taken)


def _parents_first(parents: dict[str, str | None], repaired: Counter[str]) -> list[str]:
    """The names in an order where parents come first; `parents` loses the links that close a circle."""
    children: dict[str, list[str]] = {}
    ready: deque[str] = deque()
    for name, parent in parents.items():
        if parent is None or parent not in parents:
            ready.append(name)
        else:
            children.setdefault(parent, []).append(name)
    order: list[str] = []
    reached: set[str] = set()

    def walk() -> None:
        while ready:
            here = ready.popleft()
            if here not in reached:
                reached.add(here)
                order.append(here)
                ready.extend(children.get(here, ()))

    walk()
    for name in parents if len(order) < len(parents) else ():
        if name not in reached:
            start = _on_circle(name, parents)
            repaired["circle"] += 1
            parents[start] = None
            ready.append(start)
            walk()
    return order


def _on_circle(name: str, parents: Mapping[str, str | None]) -> str:
    """A node of the circle that a node hangs on."""
    walked: set[str] = set()
    while name not in walked:
        walked.add(name)
        above = parents[name]
        assert above is not None, "it would have been reached from its root"
        name = above
    return name
