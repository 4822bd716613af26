"""Search in a large history: words of every rarity, phrases, exclusions and filters, by users with much and little."""

from __future__ import annotations

from urllib.parse import urlencode

from bench.library import COLUMNS, Library, cells
from bench.report import Aim, Part
from bench.rounds import Effort
from bench.seed import OTHERS, moment

AIM_MS = 50.0
CLIENTS = 8


def run(here: Library, effort: Effort) -> Part:
    """One client asks one thing again and again; in the last row several ask all of them in turn."""
    rows: list[tuple[str, ...]] = []
    asked = [(name, f"/search?{urlencode(query)}", "") for name, query in _asked(here).items()]
    little = {"a word in every message": "prose", "a word in none of theirs": "percent77"}
    asked += [
        (f"one of {OTHERS} others: {name}", f"/search?query={word}", here.other_key) for name, word in little.items()
    ]
    worst = 0.0
    for name, path, key in asked:
        row, one = here.row(f"{name} ({_found(here, path, key)})", effort, path, key=key)
        rows.append(row)
        worst = max(worst, one.result.p95)
    together = here.measure(effort, *(path for _, path, key in asked if not key), clients=CLIENTS)
    rows.append((f"all of the first user's, {CLIENTS} clients", *cells(together), ""))
    what = f"a search, {here.kind}, {here.history.messages:,} messages"
    aim = Aim(f"{what}: ≤ {AIM_MS:.0f} ms p95, the slowest", f"{worst:.1f} ms", worst <= AIM_MS)
    note = (
        f"The asking user has {here.history.mine:,} of {here.history.messages:,} messages. In brackets: the matches"
        " that are ranked, with a plus where there are, or may be, older ones."
    )
    return Part(f"Search, {here.kind}, pages of 20", COLUMNS, tuple(rows), (aim,), note)


def _asked(here: Library) -> dict[str, dict[str, object]]:
    """What is asked, by what is special about it. The words are those of bench/seed.py."""
    history = here.history
    early, late = moment(history.mine // 10), moment(history.mine // 5)
    onward = here.cursor("/search?query=prose&skip=180&limit=20")
    return {
        "a word in every message": {"query": "prose"},
        "in every other": {"query": "half1"},
        "in 1 of 10": {"query": "tenth7"},
        "in 1 of 100": {"query": "percent77"},
        "in 1 of 1,000": {"query": "mille777"},
        "in 1 of 10,000": {"query": "myria7777"},
        "in one message": {"query": f"number{history.mine // 2}"},
        "in none": {"query": "nowhere"},
        "two words of 1 in 100 and 1 in 1,000": {"query": "percent77 w77"},
        "two common words that never meet": {"query": "half0 half1"},
        "a phrase in every message": {"query": '"plain prose"'},
        "a phrase in none, its words in every message": {"query": '"prose plain"'},
        "a word and not another": {"query": "prose -half1"},
        "a common word in one conversation": {"query": "prose", "conversation_id": history.deep_id},
        "a common word, answers only": {"query": "prose", "role": "assistant"},
        "a common word in a tenth of the time": {"query": "prose", "since": early, "until": late},
        "a common word, by provider": {"query": "prose", "provider": "canned"},
        "a common word, by a provider that made none": {"query": "prose", "provider": "other"},
        "the second 200 matches, by cursor": {"query": "prose", "cursor": onward},
    }


def _found(here: Library, path: str, key: str) -> str:
    page = here.page(path, key=key)
    count = "older" if page["total"] is None else page["total"]
    return f"{count}{'+' if page['more'] else ''}"
