"""Holds that are taken and settled with their turn; on Postgres by a function, in the statement that begins it."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

from service.db.types import Instant

revision: str = "2026_11_26_holds"
down_revision: str | None = "2026_11_25_files"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

MICROS = "CAST(extract(epoch FROM {0}) * 1000000 AS BIGINT)"
LIMITS = ("day_nano", "week_nano", "month_nano", "requests_minute", "tokens_minute", "streams")
COLUMNS = (
    *(("scope", "text"), ("subject_id", "bigint"), ("clock", "bigint")),
    *((name, "bigint") for name in LIMITS),
    *((name, "bigint") for name in ("day", "week", "month", "requests", "freed", "tokens")),
    *((name, "bigint") for name in ("running", "held_nano", "held_tokens")),
)


def of(query: str) -> str:
    """A query with {h} for whose holds or entries, and {r} for whose rollups, as the scope of `l` has it."""
    user = query.format(h="user_id = l.subject_id", r="user_id = l.subject_id")
    key = query.format(h="key_id = l.subject_id", r="user_id > 0 AND key_id = l.subject_id")
    everybody = query.format(h="true", r="user_id = 0")
    return f"CASE l.scope WHEN 'user' THEN ({user}) WHEN 'key' THEN ({key}) ELSE ({everybody}) END"


def spent(name: str) -> str:
    """What was charged in a period; what is not folded yet included."""
    start = f"CAST(extract(epoch FROM date_trunc('{name}', l.instant AT TIME ZONE 'UTC')) AS BIGINT)"
    rolled = of(
        f"SELECT coalesce(sum(cost_nano), 0) FROM usage_rollups WHERE {{r}} AND span = 86400 AND start >= {start}"
    )
    deltas = of(f"SELECT coalesce(sum(cost_nano), 0) FROM usage_deltas WHERE {{h}} AND start >= {start}")
    return f"CASE WHEN l.{name}_nano IS NOT NULL THEN {rolled} + {deltas} END"


OPEN = "FROM holds WHERE {h} AND settled_at IS NULL AND expires_at > l.instant"
MINUTE = "{h} AND created_at > l.instant - interval '60 s'"
TOKENS = "input_tokens + cache_read_tokens + cache_write_tokens + output_tokens"
FREED = of(
    f"SELECT {MICROS.format('created_at')} FROM holds WHERE {MINUTE}"
    " ORDER BY created_at LIMIT 1 OFFSET greatest(l.requests - l.requests_minute, 0)"
)
# The limits that somebody with a key falls under, and what is used of them at this very moment. STABLE: it reads what
# the statement that calls it sees.
USE = f"""
CREATE FUNCTION everturn_allowances(whose bigint, through bigint)
RETURNS TABLE ({", ".join(f"{name} {kind}" for name, kind in COLUMNS)}) LANGUAGE sql STABLE AS $$
WITH limited AS MATERIALIZED (
    SELECT l.*, clock_timestamp() AS instant FROM limits AS l
    WHERE (l.scope = 'all' AND l.subject_id = 0) OR (l.scope = 'key' AND l.subject_id = through)
        OR (l.scope = 'user' AND l.subject_id = whose)
), counted AS MATERIALIZED (
    SELECT l.*,
        CASE WHEN l.requests_minute IS NOT NULL
            THEN {of(f"SELECT count(*) FROM holds WHERE {MINUTE}")} END AS requests,
        CASE WHEN l.tokens_minute IS NOT NULL
            THEN {of(f"SELECT coalesce(sum({TOKENS}), 0) FROM ledger_entries WHERE {MINUTE}")} END AS tokens,
        {of(f"SELECT row(count(*), coalesce(sum(nano), 0), coalesce(sum(tokens), 0))::everturn_held {OPEN}")} AS held
    FROM limited AS l
)
SELECT l.scope, l.subject_id, {MICROS.format("l.instant")}, {", ".join(f"l.{name}" for name in LIMITS)},
    {spent("day")}, {spent("week")}, {spent("month")},
    l.requests, CASE WHEN l.requests_minute IS NOT NULL THEN {FREED} END, l.tokens,
    (l.held).running, (l.held).nano, (l.held).tokens
FROM counted AS l ORDER BY l.scope
$$"""
# VOLATILE: each of its statements sees what was committed until it began. So the locks come first, in one order, and
# what is added up after them has the holds of those that were waited for.
HOLD = """
CREATE FUNCTION everturn_hold(asked json, seconds double precision)
RETURNS TABLE (user_id bigint, completion_id bigint, refused boolean, allowances text) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    one record;
    used text;
    over boolean;
BEGIN
    PERFORM 1 FROM limits AS l
    WHERE (l.scope, l.subject_id) IN (
        SELECT 'all', 0
        UNION SELECT 'key', a.key_id FROM json_to_recordset(asked) AS a(key_id bigint)
        UNION SELECT 'user', a.user_id FROM json_to_recordset(asked) AS a(user_id bigint)
    )
    ORDER BY l.scope, l.subject_id FOR UPDATE OF l;
    FOR one IN SELECT a.* FROM json_to_recordset(asked)
        AS a(user_id bigint, completion_id bigint, key_id bigint, nano bigint, tokens bigint)
    LOOP
        SELECT h.allowances INTO used FROM holds AS h
        WHERE h.user_id = one.user_id AND h.completion_id = one.completion_id;
        over := false;
        IF NOT FOUND THEN
            SELECT coalesce(json_agg(row_to_json(u)), '[]')::text,
                coalesce(bool_or(
                    u.requests + 1 > u.requests_minute
                    OR u.running + 1 > u.streams
                    OR u.tokens + u.held_tokens + one.tokens > u.tokens_minute
                    OR (one.nano > 0 AND (
                        u.day + u.held_nano + one.nano > u.day_nano
                        OR u.week + u.held_nano + one.nano > u.week_nano
                        OR u.month + u.held_nano + one.nano > u.month_nano))
                ), false)
            INTO used, over FROM everturn_allowances(one.user_id, one.key_id) AS u;
            IF NOT over THEN
                INSERT INTO holds (user_id, completion_id, key_id, nano, tokens, created_at, expires_at, allowances)
                VALUES (one.user_id, one.completion_id, one.key_id, one.nano, one.tokens, clock_timestamp(),
                    clock_timestamp() + make_interval(secs => seconds), used);
            END IF;
        END IF;
        RETURN QUERY SELECT one.user_id, one.completion_id, over, used;
    END LOOP;
END $$"""


def upgrade() -> None:
    op.add_column("holds", sa.Column("settled_at", Instant(), nullable=True))
    op.add_column("holds", sa.Column("allowances", sa.Text(), server_default="[]", nullable=False))
    open_ones = sa.text("settled_at IS NULL")
    op.create_index("ix_holds_open", "holds", ["expires_at"], postgresql_where=open_ones, sqlite_where=open_ones)
    op.create_index("ix_holds_user_id_created_at", "holds", ["user_id", "created_at"])
    op.create_index("ix_usage_rollups_key_id_span_start", "usage_rollups", ["key_id", "span", "start"])
    if op.get_bind().dialect.name == "postgresql":
        op.execute("CREATE TYPE everturn_held AS (running bigint, nano bigint, tokens bigint)")
        for statement in (USE, HOLD):
            op.execute(sa.text(statement.replace(":", r"\:")))


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION everturn_hold(json, double precision)")
        op.execute("DROP FUNCTION everturn_allowances(bigint, bigint)")
        op.execute("DROP TYPE everturn_held")
    op.drop_index("ix_usage_rollups_key_id_span_start", "usage_rollups")
    op.drop_index("ix_holds_user_id_created_at", "holds")
    op.drop_index("ix_holds_open", "holds")
    op.drop_column("holds", "allowances")
    op.drop_column("holds", "settled_at")
