"""A desk at which turns are made of any pieces, folded, and read over HTTP."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx2
from sqlalchemy import Row

from service.db.engine import Database
from service.domain.history import Line
from service.providers.base import Delta, Ending
from service.turns.folds import Folds
from service.turns.live import Live
from service.turns.opening import Opening, Sampling
from tests.api.steps import call
from tests.patience import until
from tests.turns.house import ENDING, FAILURE, METERS, MODEL, House

HEARTBEAT = b": still here\n\n"
WORDS = ("Él ", "said: ", "“🙂", "👩‍👩‍👧‍👦”", "\n", "", "漢字 ", "é", '\\"{}[] ', "end")
ANSWERS: dict[str, tuple[Any, ...]] = {
    "words": (*WORDS, ENDING),
    "thoughts first": (*(Delta("reasoning", word) for word in WORDS), *WORDS, ENDING),
    "thoughts between": (Delta("reasoning", "Hm🙂"), "A", Delta("reasoning", "é"), "b", "c", ENDING),
    "only thoughts": (Delta("reasoning", "So "), Delta("reasoning", "what?"), Ending("length", METERS)),
    "cut by its length": ("One, ", "two", Ending("length", METERS)),
    "broken off": ("One, ", "tw", FAILURE),
    "never began": (FAILURE,),
    "nothing said": (ENDING,),
}  # fmt: skip


@dataclass
class Desk:
    """A service that folds nothing by itself, its database, and a house in which a user's turns run."""

    client: httpx2.AsyncClient
    admin: httpx2.AsyncClient
    user_id: int
    house: House
    url: str
    turns: list[Live] = field(default_factory=list)

    async def begin(self, *script: Any, stored: bool = True) -> Live:
        self.house.provider.script = list(script)
        line = (Line("user", "Well?"),)
        sampling = Sampling(temperature=0.5, max_tokens=100)
        opening = Opening(self.user_id, None, MODEL, line, line, sampling, streamed=True, stored=stored)
        self.turns.append(await self.house.engine.begin(opening))
        return self.turns[-1]

    async def answered(self, *script: Any, a_row: int = 1) -> int:
        """A completion that has ended, whose journal has so many pieces a row."""
        gated: list[Any] = []
        gates: list[tuple[int, asyncio.Event]] = []
        for number, one in enumerate(script, start=1):
            gated.append(one)
            if number % a_row == 0 and not isinstance(one, Ending | Exception):
                gates.append((number, asyncio.Event()))
                gated.append(gates[-1][1])
        live = await self.begin(*gated)
        for number, gate in gates:
            await until(lambda number=number: reached(live, number), "its pieces")  # type: ignore[misc]  # bound at once
            gate.set()
        await live.finished.wait()
        return live.turn.completion_id

    async def stream(self, number: int, after: int | None = None) -> bytes:
        params = {} if after is None else {"starting_after": after}
        reply = await self.client.get(f"/completions/{number}/stream", params=params)
        assert reply.status_code == 200, reply.text
        return reply.content.replace(HEARTBEAT, b"")

    async def streams(self, number: int, *, step: int = 1) -> list[bytes]:
        """The whole stream, and what comes after each event and after more than there is."""
        last = max([row.last_seq for row in await self.rows(number)], default=0)
        return [await self.stream(number, after) for after in (None, *range(0, last + 2, step))]

    async def rows(self, number: int) -> Sequence[Row[Any]]:
        query = f"SELECT seq, last_seq, data, spans, said FROM events WHERE completion_id = {number} ORDER BY seq"
        return await self.house.rows(query)

    async def fold(self, database: Database | None = None) -> int:
        """Fold all that is over, however short a while ago."""
        return await Folds(database or self.house.database, -1.0).fold(rest=0.0)


async def reached(live: Live, number: int) -> bool:
    return len(live.events) >= number


async def delete_question(desk: Desk, number: int) -> None:
    """Delete the question of a completion, and so its answer."""
    record = await call(desk.client, "GET", f"/completions/{number}", expect=200)
    message = await call(desk.client, "GET", f"/messages/{record['message_id']}", expect=200)
    await call(desk.client, "DELETE", f"/messages/{message['parent_id']}", expect=200)
