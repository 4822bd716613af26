"""Listings over a large history: the first page, a page at depth by skip, and pages by cursor, near and deep."""

from __future__ import annotations

from urllib.parse import quote

from bench.library import COLUMNS, Library
from bench.processes import Measured
from bench.report import Aim, Part
from bench.rounds import Effort
from bench.seed import History

LIMIT = 20
AIM_MS, AIM_RATIO = 5.0, 1.5
NEAR, DEEP = 10, 90  # in hundredths of the list


def run(here: Library, effort: Effort) -> Part:
    """One client asks for one page again and again; a page by cursor is the one that skip found at that depth."""
    rows: list[tuple[str, ...]] = []
    by_cursor: dict[str, tuple[Measured, Measured]] = {}
    for name, path, length in _lists(here.history):
        near, deep = (length * part // 100 for part in (NEAR, DEEP))
        paths = {
            "first page": f"{path}limit={LIMIT}",
            f"skip={deep:,}": f"{path}skip={deep}&limit={LIMIT}",
            f"cursor at {near:,}": _by_cursor(here, path, near),
            f"cursor at {deep:,}": _by_cursor(here, path, deep),
        }
        asked = [here.row(f"{name}: {what}", effort, page) for what, page in paths.items()]
        rows += [row for row, _ in asked]
        by_cursor[name] = asked[2][1], asked[3][1]
    worst = max(one.result.p95 for pair in by_cursor.values() for one in pair)
    ratio = max(deep.result.p50 / near.result.p50 for near, deep in by_cursor.values())
    history = here.history
    aims = (
        Aim(
            f"a page by cursor, {here.kind}, {history.messages:,} messages: ≤ 5 ms p95",
            f"{worst:.2f} ms",
            worst <= AIM_MS,
        ),
        Aim(
            f"a page by cursor at {DEEP} % of the depth, {here.kind}: ≤ 1.5 times the time at {NEAR} % (p50)",
            f"{ratio:.2f}",
            ratio <= AIM_RATIO,
        ),
    )
    note = (
        f"The asking user has {history.mine:,} of {history.messages:,} messages in {history.conversations:,} "
        f"conversations, {history.deep:,} of them in one, and {history.completions:,} completions."
    )
    return Part(f"Listings, {here.kind}, pages of {LIMIT}", COLUMNS, tuple(rows), aims, note)


def _by_cursor(here: Library, path: str, depth: int) -> str:
    cursor = here.cursor(f"{path}skip={depth}&limit={LIMIT}")
    return f"{path}limit={LIMIT}&cursor={quote(cursor)}"


def _lists(history: History) -> tuple[tuple[str, str, int], ...]:
    """(name, path up to its first parameter, how many it lists)."""
    return (
        ("my messages", "/users/me/messages?", history.mine),
        ("a deep conversation", f"/conversations/{history.deep_id}/messages?branch=active&", history.deep),
        ("my conversations", "/users/me/conversations?", history.conversations),
        ("my completions", "/completions?", history.completions),
    )
