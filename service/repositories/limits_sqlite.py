"""The statements that count and hold on SQLite: the same as the functions that Postgres has."""

from sqlalchemy import text

from service.db.types import SQLITE_NOW

LIMITS = ("day_nano", "week_nano", "month_nano", "requests_minute", "tokens_minute", "streams")
SECONDS = "(l.clock / 1000000)"
# UTC's midnight, the Monday's (1970-01-05 was one) and the first one of the month, in seconds since 1970.
STARTS = {
    "day": f"({SECONDS} - {SECONDS} % 86400)",
    "week": f"({SECONDS} - ({SECONDS} - 345600) % 604800)",
    "month": f"CAST(strftime('%s', {SECONDS}, 'unixepoch', 'start of month') AS INTEGER)",
}
# Of the few that are open, whoever's they are: the others of the last minutes are many.
OPEN = "FROM holds INDEXED BY ix_holds_open WHERE {h} AND settled_at IS NULL AND expires_at > l.clock"
MINUTE = "{h} AND created_at > l.clock - 60000000"
TOKENS = "input_tokens + cache_read_tokens + cache_write_tokens + output_tokens"


def _of(query: str) -> str:
    """A query with {h} for whose holds or entries, and {r} for whose rollups, as the scope of `l` has it."""
    user = query.format(h="user_id = l.subject_id", r="user_id = l.subject_id")
    key = query.format(h="key_id = l.subject_id", r="user_id > 0 AND key_id = l.subject_id")
    everybody = query.format(h="1", r="user_id = 0")
    return f"CASE l.scope WHEN 'user' THEN ({user}) WHEN 'key' THEN ({key}) ELSE ({everybody}) END"


def _spent(name: str) -> str:
    """What was charged in a period; what is not folded yet included."""
    start = f"start >= {STARTS[name]}"
    rolled = _of(f"SELECT coalesce(sum(cost_nano), 0) FROM usage_rollups WHERE {{r}} AND span = 86400 AND {start}")
    deltas = _of(f"SELECT coalesce(sum(cost_nano), 0) FROM usage_deltas WHERE {{h}} AND {start}")
    return f"CASE WHEN l.{name}_nano IS NOT NULL THEN {rolled} + {deltas} END"


def _if(limit: str, query: str) -> str:
    return f"CASE WHEN l.{limit} IS NOT NULL THEN {query} END"


_ORDERED = f"SELECT created_at, row_number() OVER (ORDER BY created_at) AS n FROM holds WHERE {MINUTE}"
_OLDEST = _of(f"SELECT min(created_at) FROM holds WHERE {MINUTE}")
_NTH = _of(f"SELECT created_at FROM ({_ORDERED}) WHERE n = l.requests - l.requests_minute + 1")
_FREED = f"CASE WHEN l.requests <= l.requests_minute THEN {_OLDEST} ELSE {_NTH} END"
_USED = {
    **{name: f"l.{name}" for name in ("scope", "subject_id", "clock", *LIMITS)},
    **{name: _spent(name) for name in STARTS},
    "requests": "l.requests",
    "freed": _if("requests_minute", _FREED),
    "tokens": _if("tokens_minute", _of(f"SELECT coalesce(sum({TOKENS}), 0) FROM ledger_entries WHERE {MINUTE}")),
    "running": _of(f"SELECT count(*) {OPEN}"),
    "held_nano": _of(f"SELECT coalesce(sum(nano), 0) {OPEN}"),
    "held_tokens": _of(f"SELECT coalesce(sum(tokens), 0) {OPEN}"),
}
_WITH = f"""
WITH limited AS MATERIALIZED (
    SELECT l.*, {SQLITE_NOW} AS clock FROM limits AS l
    WHERE (l.scope = 'all' AND l.subject_id = 0) OR (l.scope = 'key' AND l.subject_id = :key_id)
        OR (l.scope = 'user' AND l.subject_id = :user_id)
), counted AS MATERIALIZED (
    SELECT l.*, {_if("requests_minute", _of(f"SELECT count(*) FROM holds WHERE {MINUTE}"))} AS requests
    FROM limited AS l
), used AS MATERIALIZED (
    SELECT {", ".join(f"{value} AS {name}" for name, value in _USED.items())} FROM counted AS l ORDER BY l.scope
)"""
READ = f"{_WITH} SELECT * FROM used"
_OVER = """requests + 1 > requests_minute OR running + 1 > streams OR tokens + held_tokens + :tokens > tokens_minute
        OR (:nano > 0 AND (day + held_nano + :nano > day_nano OR week + held_nano + :nano > week_nano
            OR month + held_nano + :nano > month_nano))"""
# One statement: every counter is checked, and then it is held. No row comes back where a limit is used up. `used` is
# read once: SQLite would add it all up again for each place that reads it.
HOLD = text(f"""{_WITH}
INSERT INTO holds (user_id, completion_id, key_id, nano, tokens, created_at, expires_at, allowances)
SELECT :user_id, :completion_id, :key_id, :nano, :tokens,
    {SQLITE_NOW}, {SQLITE_NOW} + CAST(:seconds * 1000000 AS INTEGER), decided.allowances
FROM (
    SELECT json_group_array(json_object({", ".join(f"'{name}', {name}" for name in _USED)})) AS allowances,
        coalesce(max({_OVER}), 0) AS refused
    FROM used
) AS decided
WHERE NOT decided.refused OR EXISTS (
    SELECT 1 FROM holds WHERE user_id = :user_id AND completion_id = :completion_id
)
ON CONFLICT (user_id, completion_id) DO UPDATE SET allowances = holds.allowances
RETURNING allowances""")
