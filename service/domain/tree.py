"""Where a message stands in its conversation's tree.

A first child goes on with its parent's line; each further child, and each root, opens a line named after itself.
A branch is then a few stretches of lines, and (line, depth) names one message.
"""

from collections.abc import Sequence
from typing import NamedTuple


class Position(NamedTuple):
    """A message that others can follow. `tip`: nothing follows it in its own line yet."""

    id: int
    line_id: int
    depth: int
    tip: bool


class Place(NamedTuple):
    """Where a new message goes."""

    id: int
    parent_id: int | None
    line_id: int
    depth: int


def place(parent: Position | None, ids: Sequence[int]) -> list[Place]:
    """The places of new messages, each the child of the one before, the first a child of `parent` or a root."""
    places: list[Place] = []
    for new in ids:
        if parent is None:
            here = Place(new, None, new, 0)
        else:
            here = Place(new, parent.id, parent.line_id if parent.tip else new, parent.depth + 1)
        places.append(here)
        parent = Position(here.id, here.line_id, here.depth, True)
    return places
