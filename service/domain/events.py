"""The pieces of a completion's output, numbered from 1, and how they fold into an answer."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

EventKind = Literal["text", "reasoning", "usage", "done", "error", "reconnect"]
TERMINAL: frozenset[EventKind] = frozenset({"done", "error"})


class Event(NamedTuple):
    """`data` is the text of a delta, or the fields of a usage, done, error or reconnect event.

    A reconnect event is of the connection, not of the output: it has the number of the last one that was sent, is never
    journalled, and says that the rest is to be had from another worker.
    """

    seq: int
    kind: EventKind
    data: Any


@dataclass(slots=True)
class Answer:
    """What came so far of an answer."""

    text: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)

    def add(self, kind: Literal["text", "reasoning"], text: str) -> None:
        (self.text if kind == "text" else self.reasoning).append(text)

    @property
    def content(self) -> str:
        return "".join(self.text)

    @property
    def reasoning_content(self) -> str | None:
        return "".join(self.reasoning) or None

    def __bool__(self) -> bool:
        return bool(self.text or self.reasoning)


def pack(events: Iterable[Event]) -> list[tuple[str, Any]]:
    """Consecutive events as a journal row's `data`: the first one's `seq` numbers them all."""
    return [(event.kind, event.data) for event in events]


def unpack(seq: int, data: Iterable[tuple[EventKind, Any]]) -> list[Event]:
    """The events of a journal row whose first event is `seq`."""
    return [Event(seq + index, kind, value) for index, (kind, value) in enumerate(data)]
