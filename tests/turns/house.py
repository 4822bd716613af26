"""An engine on a real database with a provider that does as it is told."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from sqlalchemy import Row, text

from service.db.engine import Database
from service.db.ids import Ids
from service.domain.history import Line
from service.domain.meters import Meters, Prices
from service.providers.base import Call, Delta, Ending, Model, Piece, ProviderFailure
from service.providers.registry import Registry, Source
from service.turns.engine import Engine
from service.turns.live import Live
from service.turns.opening import Branch, Opening, Sampling
from service.turns.running import Retries

MODEL = Model(
    id="told",
    provider="told",
    upstream="told-1",
    source="settings",
    prices=Prices(Decimal(1), Decimal(2)),
    max_tokens=1000,
)
ONCE = Retries(0)
METERS = Meters(input_tokens=10, cache_read_tokens=3, output_tokens=5, reasoning_tokens=2)
ENDING = Ending("stop", METERS, upstream_id="up-1", upstream_model="told-1")


@dataclass
class ToldProvider:
    """Says what the test puts into `script`: texts, endings, failures; an Event in it is waited for."""

    script: list[Any] = field(default_factory=lambda: ["Hel", "lo", ENDING])
    calls: list[Call] = field(default_factory=list)
    name: str = "told"
    failing: ProviderFailure | None = None

    async def run(self, call: Call) -> AsyncGenerator[list[Piece]]:
        self.calls.append(call)
        for one in list(self.script):
            if isinstance(one, asyncio.Event):
                await one.wait()
                if self.failing:
                    raise self.failing
            elif isinstance(one, Exception):
                raise one
            else:
                yield [Delta("text", one) if isinstance(one, str) else one]

    async def list_models(self) -> list[str]:
        return [MODEL.upstream]

    async def warm(self) -> None:
        return None

    async def close(self) -> None:
        return None


@dataclass
class House:
    database: Database
    ids: Ids
    provider: ToldProvider
    registry: Registry
    engine: Engine

    async def begin(
        self,
        question: str = "Hello?",
        *,
        streamed: bool = True,
        branch: Branch | None = None,
        waits_for: int | None = None,
    ) -> Live:
        line = (Line("user", question),)
        return await self.engine.begin(
            Opening(
                user_id=1,
                key_id=None,
                model=MODEL,
                lines=line,
                prompt=line,
                sampling=Sampling(temperature=0.5, max_tokens=100),
                streamed=streamed,
                branch=branch,
                waits_for=waits_for,
            )
        )

    async def rows(self, query: str) -> list[Row[Any]]:
        async with self.database.reading() as connection:
            return list(await connection.execute(text(query)))

    async def write(self, statement: str) -> None:
        async with self.database.transaction() as connection:
            await connection.execute(text(statement))


@asynccontextmanager
async def open_house(url: str, *, people: bool = True, retries: Retries = ONCE) -> AsyncIterator[House]:
    """A house whose users 1 and 2 exist, unless another made them. Turns still running at the end are stopped."""
    database = Database(url, synchronous="normal")
    ids = Ids(database)
    provider = ToldProvider()
    registry = Registry([Source(provider, (MODEL,), prefixed=False)])
    engine = Engine(database, ids, registry, lease_seconds=30, retries=retries)
    house = House(database, ids, provider, registry, engine)
    if people:
        await house.write("INSERT INTO users (id, username, username_key) VALUES (1, 'ada', 'ada'), (2, 'bob', 'bob')")
    await engine.start()
    try:
        yield house
    finally:
        await engine.drain(0)
        await registry.close()
        await database.close()


FAILURE = ProviderFailure("overloaded", "The provider is overloaded.", status=529, retry_after=3)
