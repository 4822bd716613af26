"""What a caller asks of a list, and what the list answers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")
Other = TypeVar("Other")


@dataclass(frozen=True, slots=True)
class Ask:
    """A page by number (`skip`) or, where `cursor` is given, by key."""

    skip: int = 0
    limit: int = 20
    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """Some items of a list. `total` is None where the page was asked for by cursor; `next` and `prev` are cursors."""

    items: list[Item]
    total: int | None
    skip: int
    limit: int
    next: str | None = None
    prev: str | None = None

    def map(self, change: Callable[[Item], Other]) -> "Page[Other]":
        """The same page of other items."""
        return Page([change(item) for item in self.items], self.total, self.skip, self.limit, self.next, self.prev)
