"""Search in SQLite's FTS5 index, whose rows are numbered by time, so that it gives the newest first by itself."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.types import to_micros
from service.domain.filters import SearchFilter
from service.domain.search import RANKED_TEXT
from service.repositories.search_candidates import Candidate, Look, Place, decisions, marks

# Places are numbered within a second: see the migration.
SLOTS = 1 << 20
LOWEST, HIGHEST = -(2**63), 2**63 - 1
WITHIN = """EXISTS (
    SELECT 1 FROM messages AS w WHERE w.user_id = d.user_id AND w.id = d.message_id
    AND (w.created_at >= :since OR :since IS NULL) AND (w.created_at < :until OR :until IS NULL))"""


# A subquery with a LIMIT runs as far as it is read, in its own order, and CROSS JOIN keeps it the outer one.
CANDIDATES = """
    (
      SELECT rowid AS place FROM search_index
      WHERE search_index MATCH :asked AND rowid < :before AND rowid >= :low
      ORDER BY rowid DESC LIMIT :size
    ) AS f
    CROSS JOIN search_documents AS d ON d.place = f.place
    WHERE d.user_id = :user_id
"""
MATCHES = f"SELECT d.message_id, d.place, substr(d.words, 1, :shown) AS words, 1 AS fits FROM {CANDIDATES}"
# Of those that do not fit only the last is told, so that one knows how far this came.
DECIDED = f"""
    SELECT y.message_id, y.place, y.fits, y.number,
      CASE WHEN y.fits THEN (SELECT substr(s.words, 1, :shown) FROM search_documents AS s WHERE s.place = y.place) END
        AS words
    FROM (
      SELECT c.*, row_number() OVER () AS number, count(*) OVER () AS seen
      FROM (SELECT d.message_id, d.place, %(condition)s AS fits FROM {CANDIDATES}) AS c
    ) AS y
    WHERE y.fits OR y.number = y.seen
"""


class SqliteIndex:
    def __init__(self, connection: AsyncConnection, chosen: SearchFilter) -> None:
        self._connection = connection
        condition, values = decisions(chosen, "instr")
        since, until = (None if at is None else to_micros(at) for at in (chosen.since, chosen.until))
        if since is not None or until is not None:
            condition = " AND ".join(filter(None, (condition, WITHIN)))
            values |= {"since": since, "until": until}
        self._low = LOWEST if since is None else since // 1_000_000 * SLOTS
        self._high = HIGHEST if until is None else (until // 1_000_000 + 1) * SLOTS
        self._values = values | {"asked": _match(chosen), "user_id": chosen.user_id, "shown": RANKED_TEXT}
        self._decided = bool(condition)
        self._query = text(DECIDED.replace("%(condition)s", condition) if condition else MATCHES)

    async def look(self, before: Place | None, size: int) -> Look:
        """See SearchIndex."""
        top = self._high if before is None else min(self._high, before[0])
        values = self._values | {"before": top, "low": self._low, "size": size}
        rows = (await self._connection.execute(self._query, values)).all()
        matches = [Candidate(row.message_id, (row.place,), row.words) for row in rows if row.fits]
        if not rows:
            return Look([], 0, None)
        return Look(matches, rows[-1].number if self._decided else len(rows), (rows[-1].place,))


def _match(chosen: SearchFilter) -> str:
    """The words and marks as FTS5 reads them: each a string, which has nothing in it that must be escaped."""
    asked = " AND ".join(f'"{one}"' for one in (*marks(chosen), *chosen.query.words))
    barred = "".join(f' NOT "{one}"' for one in chosen.query.barred)
    return f"({asked}){barred}"
