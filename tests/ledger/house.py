"""A ledger on a real database, with entries of the test's own making, and what reads, folds and proves it."""

import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import SecretStr
from sqlalchemy import insert, text

from service.config import Settings
from service.db.tables import ledger_entries
from service.main import Core, build_core
from service.usecases.audit import Audit
from service.usecases.folding import Folding
from service.usecases.usage import Usage
from service.usecases.users import UserDraft
from tests.conftest import PEPPER

Entry = dict[str, Any]
ERASED = 999_999
FAR = 1_000_000  # beyond the numbers that the service hands out


@dataclass(frozen=True, slots=True)
class House:
    """Users ada and bob exist; entries may name others, who count as erased."""

    core: Core
    usage: Usage
    folding: Folding
    audit: Audit
    ada: int
    bob: int

    async def book(self, entries: Sequence[Entry]) -> None:
        """Write entries, in one transaction and by one statement, sent for each."""
        async with self.core.database.transaction() as connection:
            if entries:
                await connection.execute(insert(ledger_entries), list(entries))

    async def run(self, statement: str) -> None:
        async with self.core.database.transaction() as connection:
            await connection.execute(text(statement))

    async def rows(self, query: str) -> list[Any]:
        async with self.core.database.reading() as connection:
            return list(await connection.execute(text(query)))


@asynccontextmanager
async def open_house(url: str) -> AsyncIterator[House]:
    core = build_core(Settings(database_url=url, pepper=SecretStr(PEPPER), sqlite_synchronous="normal"))
    try:
        ada, bob = [(await core.users.create(UserDraft(name))).id for name in ("ada", "bob")]
        usage = Usage(core.database, core.pager, timeout=30)
        yield House(core, usage, Folding(core.database), Audit(core.database, core.ids), ada, bob)
    finally:
        await core.close()


def entry(number: int, user_id: int, at: datetime, **fields: Any) -> Entry:
    """A charge of one nano-dollar and one token of each kind, or as `fields` say."""
    return {
        "user_id": user_id,
        "id": FAR + number,
        "completion_id": number,
        "attempt": 1,
        "revision": 0,
        "kind": "charge",
        "first_price": False,
        "conversation_id": None,
        "key_id": None,
        "model": "m",
        "provider": "p",
        "input_tokens": 1,
        "cache_read_tokens": 1,
        "cache_write_tokens": 1,
        "output_tokens": 1,
        "reasoning_tokens": 1,
        "cost_nano": 1,
        "price_source": "settings",
        "provenance": "provider",
        "error_kind": None,
        "created_at": at,
    } | fields


def some_entries(house: House, count: int, *, since: datetime, days: int, seed: int) -> list[Entry]:
    """Entries of everybody at random moments, some of them failed, some without a price."""
    dice = random.Random(seed)
    users = (house.ada, house.bob, ERASED, ERASED + 1)
    made = []
    for number in range(1, count + 1):
        at = since + timedelta(microseconds=dice.randrange(days * 86_400_000_000))
        # Where buckets begin mistakes show.
        at = at.replace(minute=dice.choice((0, 30)), second=0, microsecond=0) if dice.random() < 0.2 else at
        model = dice.choice(("a", "b", "c"))
        made.append(
            entry(
                number,
                dice.choice(users),
                at.astimezone(UTC),
                key_id=dice.choice((None, 1, 2)),
                conversation_id=dice.choice((None, 10, 11)),
                model=model,
                provider="p" if model == "a" else "q",
                input_tokens=dice.randrange(1000),
                output_tokens=dice.randrange(1000),
                cost_nano=None if model == "c" else dice.randrange(10**12),
                error_kind=dice.choice((None, None, "timeout")),
            )
        )
    return made
