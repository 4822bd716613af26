"""Usage reports over a large ledger: everybody's and one user's, 90 days by day and model, in three time zones."""

from __future__ import annotations

from bench.databases import Databases, Kind, execute, is_postgres
from bench.load import Load
from bench.processes import measure
from bench.report import Aim, Part, number
from bench.rounds import Effort
from bench.subjects import admin_key, environment, everturn, served

START = 1_785_542_400  # 2026-08-01, in UTC
DAYS, USERS, MODELS = 90, 1000, 10
EVERYBODY_MS, USER_MS = 20.0, 5.0
STATEMENTS = 2  # the bound on the time (Postgres), and one that reads rollups and what is not folded
COLUMNS = (
    "user_id, id, completion_id, attempt, conversation_id, key_id, model, provider, input_tokens, cache_read_tokens,"
    " cache_write_tokens, output_tokens, reasoning_tokens, cost_nano, price_source, price_version, provenance,"
    " created_at, booked_at"
)


def run(kind: Kind, databases: Databases, *, provider: str, entries: int, effort: Effort) -> Part:
    """One client asks for one report again and again."""
    url = databases.new(kind, "usage")
    env = environment(url, provider, databases.directory)
    key = admin_key(env)
    execute(url, seed(entries, postgres=is_postgres(url)))
    everturn(env, "verify", "--rebuild")
    execute(url, ["VACUUM ANALYZE" if is_postgres(url) else "ANALYZE"])
    rows, worst = [], {True: 0.0, False: 0.0}
    with served(env, key) as service:
        for zone in ("UTC", "Europe/Berlin", "Asia/Kolkata"):
            for everybody in (True, False):
                path = f"/usage?since=2026-08-01T00:00:00Z&until=2026-10-30T00:00:00Z&group_by=model&timezone={zone}"
                path += "" if everybody else "&user_id=7"
                load = Load(service.port, (path,), key, clients=1, seconds=effort.seconds, warmup=0.2)
                one = measure(service, load)
                whose = "everybody's" if everybody else "one user's"
                rows.append((f"{whose}, {zone}", number(one.result.p50), number(one.result.p95), number(one.cpu_ms)))
                if zone == "UTC":
                    worst[everybody] = one.result.p95
    what = f"{DAYS} days by day and model, {kind}, {entries:,} entries"
    aims = (
        Aim(f"everybody's usage, {what}: ≤ 20 ms p95", f"{worst[True]:.2f} ms", worst[True] <= EVERYBODY_MS),
        Aim(f"one user's usage, {what}: ≤ 5 ms p95", f"{worst[False]:.2f} ms", worst[False] <= USER_MS),
    )
    note = f"{USERS:,} users, {MODELS} models; at most {STATEMENTS} statements a report."
    return Part(f"Usage reports, {kind}", ("", "p50 ms", "p95 ms", "CPU ms"), tuple(rows), aims, note)


def seed(entries: int, *, postgres: bool) -> list[str]:
    """So many charges, evenly over the days, of users and models at random; rollups are made from them afterwards."""
    mixed = f"(i * 7919 % {USERS + 9})"
    seconds = f"({START} + i * {DAYS * 86_400}.0 / {entries})"
    at = f"to_timestamp({seconds})" if postgres else f"CAST({seconds} * 1000000 AS INTEGER)"
    values = (
        f"1 + {mixed} % {USERS}, 1000000000 + i, 1000000000 + i, 1, i / 10, 1 + {mixed} % {USERS},"
        f" 'model-' || (i * 31 % {MODELS}), 'provider-' || (i * 31 % {MODELS} / 4), 100 + i % 50, i % 3, 0,"
        f" 200 + i % 77, 0, 12345 + i % 1000, 'settings', '', 'provider', {at}, {at}"
    )
    numbers = f"WITH RECURSIVE numbers (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM numbers WHERE i + 1 < {entries})"
    if postgres:
        insert = (
            f"INSERT INTO ledger_entries ({COLUMNS}) SELECT {values} FROM generate_series(0, {entries - 1}::bigint) i"
        )
        # The trigger is not asked for each of the rows: `verify --rebuild` counts them.
        return ["SET session_replication_role = replica", insert, "SET session_replication_role = origin"]
    return [f"{numbers} INSERT INTO ledger_entries ({COLUMNS}) SELECT {values} FROM numbers"]
