"""The ledger's proof, and its corrections: verify, rebuild, re-price."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic
from typing import Any

from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.engine import Database
from service.db.ids import Ids
from service.db.ledger_tables import SUMS
from service.domain.meters import Meters
from service.errors import UnknownModel
from service.providers.base import Model
from service.providers.registry import Registry
from service.repositories import ledger, rollups

BATCH = 500
# Longer than SQLite's other writers sleep between two looks.
PAUSE_SECONDS = 0.2
MOST_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Finding:
    """One comparison, and up to MOST_SHOWN sentences about where it failed."""

    what: str
    mistakes: list[str]


@dataclass(frozen=True, slots=True)
class Proof:
    """What the ledger holds, and how it compares with the rollups and the completions."""

    charges: int
    corrections: int
    orphans: int
    findings: list[Finding]

    @property
    def holds(self) -> bool:
        return not any(finding.mistakes for finding in self.findings)


@dataclass(frozen=True, slots=True)
class Repricing:
    """Which charges are to be priced anew: of one model or of all, made in [since, until)."""

    since: datetime
    until: datetime | None = None
    model: str | None = None
    dry: bool = False


@dataclass(slots=True)
class Repriced:
    """What a re-pricing did. `nano` is what all corrections add, `unpriced` the models that still have no price."""

    seen: int = 0
    corrected: int = 0
    nano: int = 0
    by_model: Counter[str] = field(default_factory=Counter)
    unpriced: Counter[str] = field(default_factory=Counter)


class Audit:
    def __init__(self, database: Database, ids: Ids) -> None:
        self._database = database
        self._ids = ids

    async def verify(self) -> Proof:
        """Compare every rollup with the ledger, and the ledger with every finished completion, at one moment."""
        async with self._database.reading() as connection:
            await rollups.see_one_moment(connection)
            counts = await ledger.count_entries(connection)
            findings = [await _compare(connection, level) for level in rollups.LEVELS]
            findings.append(await _compare_completions(connection))
        return Proof(counts.charges, counts.corrections, counts.orphans, findings)

    async def rebuild(self) -> None:
        """Make every rollup anew from the ledger. Turns go on meanwhile, and are folded in afterwards."""
        if self._database.dialect == "sqlite":
            return await self._rebuild_by_days()
        # The lock comes first, in a transaction of its own: what is seen must not be older than the last fold.
        async with self._database.transaction() as guard:
            await rollups.wait_for_folding(guard)
            async with self._database.transaction() as connection:
                await rollups.see_one_moment(connection)
                await rollups.rebuild(connection)

    async def _rebuild_by_days(self) -> None:
        """Some days at a time, with as long a pause between: one writes at a time, and turns want to as well."""
        since: int | None = None
        while True:
            began = monotonic()
            async with self._database.transaction() as connection:
                while await rollups.fold(connection):
                    pass
                until = await rollups.find_end(connection, since)
                await rollups.rebuild_days(connection, since, until)
            if until is None:
                return
            since = until
            await asyncio.sleep(max(PAUSE_SECONDS, monotonic() - began))

    async def reprice(self, wish: Repricing, registry: Registry) -> Repriced:
        """Price charges by today's catalogue as of the day when they were made, and book what differs as corrections.

        A charge whose model has no price now is left alone. Doing it again changes nothing.
        """
        done = Repriced()
        after: tuple[datetime, int] | None = None
        while True:
            async with self._database.reading() as connection:
                batch = await ledger.list_charges(
                    connection, since=wish.since, until=wish.until, model=wish.model, after=after, most=BATCH
                )
            if not batch:
                return done
            after = batch[-1].created_at, batch[-1].id
            corrections = [one for row in batch if (one := _correction(row, registry, done))]
            if corrections and not wish.dry:
                await self._book(corrections)

    async def _book(self, corrections: Sequence[dict[str, Any]]) -> None:
        ids = await self._ids.take("ledger", len(corrections))
        rows = [one | {"id": number} for one, number in zip(corrections, ids, strict=True)]
        await self._database.atomically(lambda connection: ledger.add_corrections(connection, rows))


async def _compare(connection: AsyncConnection, level: rollups.Level) -> Finding:
    found = await rollups.list_differences(connection, level, MOST_SHOWN)
    return Finding(f"rollups, {level}", [_difference(row) for row in found])


def _difference(row: Row[Any]) -> str:
    where = f"user {row.user_id}, " if row.user_id else ""
    start = datetime.fromtimestamp(row.start, UTC).isoformat()
    sums = ", ".join(f"{name} {row._mapping[name]:+d}" for name in SUMS if row._mapping[name])
    return f"{where}{start}, {row.model} of {row.provider}, key {row.key_id}: the ledger has {sums} beyond the rollup"


async def _compare_completions(connection: AsyncConnection) -> Finding:
    found = await ledger.list_miscounted(connection, MOST_SHOWN)
    said = "{0.charges} charges for {0.attempt_count} attempts, or other sums than in its record"
    return Finding("completions", [f"completion {row.id} of user {row.user_id}: {said.format(row)}" for row in found])


def _correction(row: Row[Any], registry: Registry, done: Repriced) -> dict[str, Any] | None:
    """The entry that is to be booked for a charge, without its number; None where its cost stays."""
    done.seen += 1
    meters = Meters(**{name: getattr(row, name) for name in Meters.__slots__})
    cost = registry.cost(_model(row, registry), meters, row.created_at)
    unpriced = row.cost_nano is None and row.corrected is None
    before = 0 if unpriced else (row.cost_nano or 0) + (row.corrected or 0)
    if cost.nano is None:
        done.unpriced[row.model] += unpriced
        return None
    if cost.nano == before and not unpriced:
        return None
    done.corrected += 1
    done.nano += cost.nano - before
    done.by_model[row.model] += cost.nano - before
    kept = ("user_id", "completion_id", "attempt", "conversation_id", "key_id", "model", "provider", "provenance")
    return {name: getattr(row, name) for name in (*kept, "created_at")} | {
        "kind": "correction",
        "revision": row.last_revision + 1,
        "first_price": unpriced,
        **dict.fromkeys(Meters.__slots__, 0),
        "cost_nano": cost.nano - before,
        "price_source": cost.source,
        "price_version": cost.version,
    }


def _model(row: Row[Any], registry: Registry) -> Model:
    """The model of a charge as the catalogue has it, or as it was called where the catalogue has it no more."""
    try:
        known = registry.get_model(row.model)
    except UnknownModel:
        known = None
    if known and known.provider == row.provider:
        return known
    upstream = row.upstream or row.model.removeprefix(f"{row.provider}/")
    return Model(row.model, provider=row.provider, upstream=upstream, source="discovered")
