"""Listings over a large history: the first page, a page at depth by skip, and the same page by cursor."""

from __future__ import annotations

import http.client
import json
from urllib.parse import quote

from bench.databases import Databases, Kind
from bench.load import Load
from bench.processes import BenchError, Measured, Subject, measure
from bench.report import Aim, Part, number
from bench.rounds import Effort
from bench.seed import History, seed
from bench.subjects import admin_key, environment, served

LIMIT = 20
AIM_MS = 5.0


def run(kind: Kind, databases: Databases, *, provider: str, messages: int, effort: Effort) -> Part:
    """One client asks for one page again and again; a page by cursor is the one that skip found at that depth."""
    url = databases.new(kind, "listing")
    env = environment(url, provider, databases.directory)
    key = admin_key(env)
    history = seed(url, messages)
    rows: list[tuple[str, ...]] = []
    worst = 0.0
    with served(env, key) as service:
        for name, path, count in _lists(history):
            depth = count * 9 // 10
            skipped = f"{path}skip={depth}&limit={LIMIT}"
            paths = {
                "first page": f"{path}limit={LIMIT}",
                f"skip={depth:,}": skipped,
                "cursor there": f"{path}limit={LIMIT}&cursor={quote(_cursor(service, skipped))}",
            }
            for what, asked in paths.items():
                one = measure(service, Load(service.port, (asked,), key, clients=1, seconds=effort.seconds, warmup=0.2))
                rows.append((f"{name}: {what}", *_cells(one)))
                worst = max(worst, one.result.p95 if what.startswith("cursor") else 0.0)
    aim = Aim(
        f"a page by cursor, {kind}, {history.messages:,} messages: ≤ 5 ms p95", f"{worst:.2f} ms", worst <= AIM_MS
    )
    note = (
        f"The asking user has {history.mine:,} of {history.messages:,} messages in {history.conversations:,} "
        f"conversations, {history.deep:,} of them in one, and {history.completions:,} completions."
    )
    return Part(f"Listings, {kind}, pages of {LIMIT}", ("", "p50 ms", "p95 ms", "CPU ms"), tuple(rows), (aim,), note)


def _lists(history: History) -> tuple[tuple[str, str, int], ...]:
    """(name, path up to its first parameter, how many it lists)."""
    return (
        ("my messages", "/users/me/messages?", history.mine),
        ("a deep conversation", f"/conversations/{history.deep_id}/messages?branch=active&", history.deep),
        ("my conversations", "/users/me/conversations?", history.conversations),
        ("my completions", "/completions?", history.completions),
    )


def _cells(one: Measured) -> tuple[str, ...]:
    return number(one.result.p50), number(one.result.p95), number(one.cpu_ms)


def _cursor(service: Subject, path: str) -> str:
    """The cursor that a page gives to the next one."""
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {service.key}"})
        reply = connection.getresponse()
        body = reply.read()
    finally:
        connection.close()
    found = json.loads(body).get("next_cursor") if reply.status == 200 else None
    if not found:
        raise BenchError(f"GET {path} gave no next_cursor: {reply.status} {body[:300]!r}")
    return str(found)
