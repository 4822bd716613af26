"""Ids known before the insert, taken in blocks: a transaction that is retried meets its own rows."""

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field

from sqlalchemy import bindparam

from service.db.engine import Database
from service.db.recordset import upsert
from service.db.tables import id_blocks

SMALLEST, LARGEST = 16, 1024


@dataclass(slots=True)
class _Block:
    next: int = 0
    end: int = 0
    size: int = SMALLEST
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Ids:
    """Positive integers, unique for a noun over all workers, below 2^53. Rising within a worker, not over all."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._blocks: defaultdict[str, _Block] = defaultdict(_Block)
        self._reserve = (
            upsert(database.dialect, id_blocks)
            .values(noun=bindparam("noun"), next_id=bindparam("first_end"))
            .on_conflict_do_update(index_elements=["noun"], set_={"next_id": id_blocks.c.next_id + bindparam("count")})
            .returning(id_blocks.c.next_id)
        )

    async def take(self, noun: str, count: int = 1) -> range:
        """`count` ids in a row. Raises DatabaseUnavailable when a new block is needed and cannot be had."""
        block = self._blocks[noun]
        if block.end - block.next < count:
            async with block.lock:
                if block.end - block.next < count:
                    await self._refill(noun, block, count)
        first = block.next
        block.next += count
        return range(first, first + count)

    async def _refill(self, noun: str, block: _Block, count: int) -> None:
        size = max(block.size, count)
        async with self._database.transaction() as connection:
            values = {"noun": noun, "first_end": 1 + size, "count": size}
            end: int = (await connection.execute(self._reserve, values)).scalar_one()
        block.next, block.end, block.size = end - size, end, min(block.size * 2, LARGEST)
