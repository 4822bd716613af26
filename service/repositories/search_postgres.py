"""Search in Postgres' GIN index, which knows no order: it is asked block of time after block, from the newest on.

Each block is a look into the index with three conditions: the block's mark, the owner's, and the words. GIN leaps from
one to the others' next row, so a look costs what is in the block and belongs to the owner, however common a word is.
The blocks grow with their age, and the lateral join takes one after the other only until enough was found.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, Boolean, Row, Text, TextClause, bindparam, select, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.tables import messages
from service.db.types import EPOCH, Instant, from_micros, to_micros
from service.domain.filters import SearchFilter
from service.domain.search import RANKED_TEXT
from service.repositories.search_candidates import Candidate, Look, Place, decisions, marks

# Marks of blocks of 2^shift seconds: see the migration.
SHIFTS = (10, 14, 18, 22, 26)
MOST_BLOCKS = 100
# A block that gives so many rows is divided; the smallest one, a quarter of an hour, gives no more than these.
CROWD = 10_000
LATEST = datetime.max.replace(tzinfo=UTC)


class Block(NamedTuple):
    """2^shift seconds, so many times that since 1970; with shift 0 all time before the second `number`, unmarked."""

    shift: int
    number: int

    @property
    def mark(self) -> str:
        return f"t{self.shift}_{self.number}"

    def parts(self) -> list["Block"]:
        """The smaller blocks that it consists of, newest first; none where it has none."""
        if self.shift in (0, SHIFTS[0]):
            return []
        down = SHIFTS[SHIFTS.index(self.shift) - 1]
        count = 1 << (self.shift - down)
        return [Block(down, self.number * count + at) for at in reversed(range(count))]


def cover(low: int, high: int, *, exact: bool) -> Iterator[Block]:
    """Blocks from the second `high` back to the second `low`, newest first, each as large as its place allows.

    `exact`: none reaches further back than the smallest must.
    """
    smallest = SHIFTS[0]
    top, floor = ((high >> smallest) + 1) << smallest, (low >> smallest) << smallest
    for _ in range(MOST_BLOCKS):
        if top <= low:
            return
        fitting = (shift for shift in SHIFTS if top % (1 << shift) == 0 and not (exact and top - (1 << shift) < floor))
        shift = max(fitting)
        top -= 1 << shift
        yield Block(shift, top >> shift)
    yield Block(0, top)


class PostgresIndex:
    def __init__(self, connection: AsyncConnection, chosen: SearchFilter) -> None:
        self._connection = connection
        self._chosen = chosen
        condition, values = decisions(chosen, "strpos")
        within = ""
        if chosen.since is not None:
            within += " AND created_at >= :since"
            values["since"] = chosen.since
        if chosen.until is not None:
            within += " AND created_at < :until"
            values["until"] = chosen.until
        self._values = values | {
            "asked": " & ".join([*map(_quoted, chosen.query.words), *(f"!{_quoted(w)}" for w in chosen.query.barred)]),
            "marks": " & ".join(map(_quoted, marks(chosen))),
            "owner": chosen.user_id,
            "crowd": CROWD,
            "shown": RANKED_TEXT,
        }
        self._query = _query(condition, within)
        self._span: tuple[datetime, datetime] | None = None

    async def look(self, before: Place | None, size: int) -> Look:
        """See SearchIndex."""
        if self._span is None:
            self._span = await self._find_span()
        blocks = self._blocks(self._span, before) if self._span else []
        matches: list[Candidate] = []
        seen, last = 0, before
        while blocks and seen < size:
            rows = await self._ask(blocks, before, size - seen)
            crowded = _crowded(rows)
            told = rows if crowded is None else [row for row in rows if row.block - 1 < crowded]
            matches += [Candidate(row.message_id, _place(row), row.words) for row in told if row.fits]
            if told:
                seen, last = seen + told[-1].number, _place(told[-1])
            if crowded is None:
                break
            blocks = [*blocks[crowded].parts(), *blocks[crowded + 1 :]]
        return Look(matches, seen, last)

    def _blocks(self, span: tuple[datetime, datetime], before: Place | None) -> list[Block]:
        (low, high), chosen = span, self._chosen
        if chosen.since is not None:
            low = max(low, chosen.since)
        if chosen.until is not None:
            high = min(high, chosen.until)
        if before is not None:
            high = min(high, from_micros(before[0]))
        return list(cover(_seconds(low), _seconds(high), exact=chosen.since is not None)) if low <= high else []

    async def _ask(self, blocks: list[Block], before: Place | None, size: int) -> Sequence[Row[Any]]:
        values = self._values | {
            # The owner's mark, which says nothing new, stands for the one that the time before all blocks has not.
            "blocks": [_quoted(block.mark if block.shift else f"u_{self._chosen.user_id}") for block in blocks],
            "coarse": [bool(block.parts()) for block in blocks],
            "marked": len([block for block in blocks if block.shift]),
            "unmarked": from_micros(blocks[-1].number * 1_000_000) if not blocks[-1].shift else LATEST,
            "before": LATEST if before is None else from_micros(before[0]),
            "number": 0 if before is None else before[1],
            "size": size,
        }
        return (await self._connection.execute(self._query, values)).all()

    async def _find_span(self) -> tuple[datetime, datetime] | None:
        """When the oldest and the newest message of the owner, or of the conversation, were made."""
        mine = messages.c.user_id == self._chosen.user_id
        if self._chosen.conversation_id is not None:
            mine &= messages.c.conversation_id == self._chosen.conversation_id
        ends = [
            select(messages.c.created_at).where(mine).order_by(*order).limit(1).scalar_subquery()
            for order in (
                (messages.c.created_at, messages.c.id),
                (messages.c.created_at.desc(), messages.c.id.desc()),
            )
        ]
        oldest, newest = (await self._connection.execute(select(*ends))).one()
        return None if oldest is None else (oldest, newest)


# Not by an index on user_id: Postgres would read all of a user's rows there for each block, and join the two. Nothing
# orders the rows in the end: the join gives them in the blocks' order, and a sort would read them all.
CANDIDATES = """
    SELECT found.*, b.block, CASE WHEN b.coarse AND found.given >= :crowd THEN b.block END AS crowded
    FROM unnest(CAST(:blocks AS text[]), CAST(:coarse AS boolean[])) WITH ORDINALITY AS b (mark, coarse, block)
    CROSS JOIN LATERAL (
      SELECT each.*, count(*) OVER () AS given FROM (
        SELECT user_id, message_id, created_at, words FROM search_documents
        WHERE search_terms(user_id, conversation_id, role, created_at, words) @@ CAST(b.mark AS tsquery)
          AND search_terms(user_id, conversation_id, role, created_at, words) @@ CAST(CAST(:marks AS text) AS tsquery)
          AND search_terms(user_id, conversation_id, role, created_at, words) @@ CAST(CAST(:asked AS text) AS tsquery)
          AND (created_at, message_id) < (:before, :number)
          AND (b.block <= :marked OR created_at < :unmarked)%(within)s
        LIMIT :crowd
      ) AS each
      ORDER BY created_at DESC, message_id DESC
    ) AS found
    WHERE found.user_id = :owner
    LIMIT :size
"""
MATCHES = f"""
    SELECT d.message_id, d.created_at, d.block, d.crowded, true AS fits, row_number() OVER () AS number,
      left(d.words, :shown) AS words
    FROM ({CANDIDATES}) AS d
"""
# Of those that do not fit only the last is told, so that one knows how far this came. The words, which are long, are
# not carried through what counts the rows.
DECIDED = f"""
    SELECT y.message_id, y.created_at, y.block, y.fits, y.number, y.crowded,
      CASE WHEN y.fits THEN (
        SELECT left(s.words, :shown) FROM search_documents AS s WHERE s.user_id = :owner AND s.message_id = y.message_id
      ) END AS words
    FROM (
      SELECT c.*, row_number() OVER () AS number, count(*) OVER () AS seen, min(c.full_block) OVER () AS crowded
      FROM (
        SELECT d.message_id, d.created_at, d.block, d.crowded AS full_block, %(condition)s AS fits
        FROM ({CANDIDATES}) AS d OFFSET 0
      ) AS c
    ) AS y
    WHERE y.fits OR y.number = y.seen
"""


def _query(condition: str, within: str) -> TextClause:
    written = (DECIDED.replace("%(condition)s", condition) if condition else MATCHES).replace("%(within)s", within)
    types: dict[str, Any] = {"blocks": ARRAY(Text), "coarse": ARRAY(Boolean)}
    types |= dict.fromkeys(("number", "owner", "marked"), BigInteger)
    types |= dict.fromkeys(("before", "unmarked", "since", "until"), Instant)
    typed = (bindparam(name, type_=kind) for name, kind in types.items() if f":{name}" in written)
    return text(written).bindparams(*typed)


def _crowded(rows: Sequence[Row[Any]]) -> int | None:
    """The first block that may have more than it gave and can be divided."""
    return min((row.crowded - 1 for row in rows if row.crowded is not None), default=None)


def _place(row: Row[Any]) -> Place:
    return to_micros(row.created_at), row.message_id


def _seconds(moment: datetime) -> int:
    return int((moment - EPOCH).total_seconds() // 1)


def _quoted(term: str) -> str:
    """A word or mark as Postgres' tsquery reads it; neither holds a quote or a backslash."""
    return f"'{term}'"
