"""A turn that runs in this worker: its identity, what came so far, and those who follow it."""

import asyncio
from collections.abc import AsyncGenerator, Iterator, Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Literal

from service.domain.events import TERMINAL, Answer, Event, EventKind
from service.domain.meters import Use
from service.domain.quotas import Quota
from service.errors import EverturnError
from service.providers.base import Call, Counted, Ending, Model, Piece, ProviderFailure

# What is handed to a follower at once: one that does not read keeps no more than this in memory.
BATCH = 256

# Why a run is stopped: its user wants that; its worker goes, with something said already, or before that; it is not
# this worker's any more.
Stop = Literal["cancelled", "worker_lost", "released", "taken"]


@dataclass(frozen=True, slots=True)
class Turn:
    """What was accepted. `message_id` is the assistant message's; it is None where nothing is to be stored.

    `asked` is the model that the caller named, `model` the one that is called now; `fallbacks` may follow it.
    `waits_for` is the completion that has to end first; until then `call` holds no messages and `attempt` is 0. Those
    of a comparison are `compared`.
    """

    user_id: int
    completion_id: int
    conversation_id: int | None
    message_id: int | None
    key_id: int | None
    entry_id: int
    asked: Model
    model: Model
    call: Call
    fallbacks: tuple[Model, ...] = ()
    waits_for: int | None = None
    warnings: tuple[str, ...] = ()
    epoch: int = 1
    attempt: int = 1
    compared: bool = False

    @property
    def name(self) -> tuple[int, int]:
        """The completion's (user_id, id)."""
        return self.user_id, self.completion_id


@dataclass(eq=False, slots=True)
class Live:
    """The run of a turn. Events are `pending` until they are journalled, then `events`, which alone are shown.

    `counted` is what the provider said of the present attempt, `spent` what the attempts before it used; `quotas` are
    the limits that the turn fell under when it began, with what it may use taken off.
    """

    turn: Turn
    events: list[Event] = field(default_factory=list)
    pending: list[Event] = field(default_factory=list)
    pending_chars: int = 0
    answer: Answer = field(default_factory=Answer)
    started: float = field(default_factory=monotonic)
    first_token: float | None = None
    next_seq: int = 1
    counted: Counted | None = None
    spent: Use = field(default_factory=Use)
    outcome: Mapping[str, Any] | None = None
    error: EverturnError | None = None
    begun: bool = False
    lost: bool = False
    task: "asyncio.Task[None] | None" = None
    stopping: Stop | None = None
    settling: bool = False
    failed: ProviderFailure | None = None
    quotas: tuple[Quota, ...] = ()
    finished: asyncio.Event = field(default_factory=asyncio.Event)
    _waiting: set[asyncio.Event] = field(default_factory=set)

    def add(self, kind: EventKind, data: Any) -> None:
        """The next event of the output; it is shown once it is journalled."""
        self.pending.append(Event(self.next_seq, kind, data))
        self.next_seq += 1

    def hear(self, batch: list[Piece]) -> Ending | None:
        """The next pieces of the answer; returns its ending when that is among them."""
        for piece in batch:
            if isinstance(piece, Counted):
                self.counted = piece
                continue
            if self.first_token is None:
                self.first_token = monotonic()
            if isinstance(piece, Ending):
                return piece
            self.answer.add(piece.kind, piece.text)
            self.pending_chars += len(piece.text)
            self.add(piece.kind, piece.text)
        return None

    def take_pending(self) -> list[Event]:
        taken, self.pending, self.pending_chars = self.pending, [], 0
        return taken

    def publish(self, events: list[Event]) -> None:
        """Show events that the database has."""
        self.events += events
        for waiting in self._waiting:
            waiting.set()

    def close(self, outcome: Mapping[str, Any], error: EverturnError | None, tail: list[Event]) -> None:
        """The end is committed."""
        self.outcome, self.error = outcome, error
        self.publish(tail)

    def lose(self) -> None:
        """The turn is not this worker's any more: whatever it hears is nobody's."""
        self.lost = True

    def stop(self, why: Stop) -> bool:
        """End the run. False where that is too late, because its end is being recorded, or too early."""
        if self.task is None or not self.begun or self.settling or self.stopping:
            return False
        self.stopping = why
        self.task.cancel()
        return True

    def end(self) -> None:
        """Nothing more will come: wake whoever waits for the end."""
        self.finished.set()
        for waiting in self._waiting:
            waiting.set()

    async def follow(
        self, after: int = 0, *, first: float = 1.0, heartbeat: float = 15.0
    ) -> AsyncGenerator[list[Event]]:
        """The journalled events with a number above `after`, in batches, up to the terminal one.

        An empty batch says that nothing came for `heartbeat` seconds, or for `first` at the start. A follower holds a
        position, not a queue: a slow one costs nothing and holds nobody back.
        """
        woken = asyncio.Event()
        self._waiting.add(woken)
        loop = asyncio.get_running_loop()
        position = max(after, 0)
        silence = heartbeat if self.events[position:] else first
        try:
            while True:
                woken.clear()
                batch = self.events[position : position + BATCH]
                if batch:
                    position += len(batch)
                    yield batch
                    if batch[-1].kind in TERMINAL:
                        return
                elif self.finished.is_set():
                    return
                else:
                    alarm = loop.call_later(silence, woken.set)
                    await woken.wait()
                    alarm.cancel()
                    silence = heartbeat
                    if len(self.events) == position and not self.finished.is_set():
                        yield []
        finally:
            self._waiting.discard(woken)


class Lives:
    """The turns that run in this worker, by their completions' (user_id, id)."""

    def __init__(self) -> None:
        self._lives: dict[tuple[int, int], Live] = {}

    def __iter__(self) -> Iterator[Live]:
        return iter(list(self._lives.values()))

    def __len__(self) -> int:
        return len(self._lives)

    def find(self, user_id: int, completion_id: int) -> Live | None:
        """The turn, where it runs in this worker."""
        return self._lives.get((user_id, completion_id))

    def add(self, live: Live) -> None:
        self._lives[live.turn.name] = live

    def remove(self, live: Live) -> None:
        """A turn that ran here again meanwhile stays."""
        if self._lives.get(live.turn.name) is live:
            del self._lives[live.turn.name]
