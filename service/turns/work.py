"""What one transaction of the journal writes, and those who wait for it."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from pydantic_core import to_json

from service.domain.events import Event, pack
from service.repositories.limits import Verdict
from service.repositories.turns import Begin, Finish, Row
from service.turns.live import Live, Turn


@dataclass(slots=True)
class Work:
    """Begins and finishes with the futures of their callers, and the events of turns."""

    begins: list[tuple[Begin, "asyncio.Future[Verdict | None]"]] = field(default_factory=list)
    appends: list[tuple[Live, list[Event]]] = field(default_factory=list)
    finishes: list[tuple[Finish, "asyncio.Future[bool]"]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.begins or self.appends or self.finishes)

    def split(self) -> "list[Work]":
        """The same, each item on its own, in the order in which they have to be written."""
        return [
            *(Work(begins=[one]) for one in self.begins),
            *(Work(appends=[one]) for one in self.appends),
            *(Work(finishes=[one]) for one in self.finishes),
        ]

    def event_rows(self) -> list[Row]:
        return [event_row(live.turn, events) for live, events in self.appends]

    def refuse(self, error: Exception) -> None:
        """Tell all who wait that it is not written."""
        for _, begun in self.begins:
            _fail(begun, error)
        for live, _ in self.appends:
            live.lose()
        for _, ended in self.finishes:
            _fail(ended, error)

    def without_begins(self, error: Exception) -> "Work":
        """The rest, once those who wait for a begin were told why there is none."""
        for _, begun in self.begins:
            _fail(begun, error)
        return Work(appends=self.appends, finishes=self.finishes)


def event_row(turn: Turn, events: Sequence[Event]) -> Row:
    """Consecutive events as a row of the journal, with the epoch that fences it."""
    return {
        "user_id": turn.user_id,
        "completion_id": turn.completion_id,
        "seq": events[0].seq,
        "last_seq": events[-1].seq,
        "data": to_json(pack(events)).decode(),
        "epoch": turn.epoch,
    }


def _fail(future: "asyncio.Future[Verdict | None] | asyncio.Future[bool]", error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
