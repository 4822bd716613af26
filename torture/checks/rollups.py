"""What the ledger adds up to: each rollup is its entries' sum, to the token and the nano-dollar."""

from collections import Counter
from collections.abc import Iterator

from torture.evidence import Evidence, Finding
from torture.rows import Entry

QUARTER, HOUR, DAY = 900, 3600, 86_400
# Of each user by key, and of everybody.
OWN, ALL = (HOUR, DAY), (QUARTER, HOUR, DAY)
METERS = ("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens")
SUMS = ("requests", "errors", "unpriced", *METERS, "cost_nano")
Name = tuple[int, int, int, str, str, int]


def check(evidence: Evidence) -> Iterator[Finding]:
    """unaccounted."""
    want: Counter[tuple[Name, str]] = Counter()
    for entry in evidence.entries:
        for name in _names(entry.user_id, entry.second, entry.model, entry.provider, key=entry.key_id or 0):
            want.update({(name, column): value for column, value in _added(entry).items()})
    have: Counter[tuple[Name, str]] = Counter()
    for row in evidence.rollups:
        name = (row.user_id, row.span, row.start, row.model, row.provider, row.key_id)
        have.update({(name, column): getattr(row, column) for column in SUMS})
    for delta in evidence.deltas:
        for name in _names(delta.user_id, delta.start, delta.model, delta.provider, key=delta.key_id):
            have.update({(name, column): getattr(delta, column) for column in SUMS})
    for what in want.keys() | have.keys():
        if want[what] != have[what]:
            yield Finding("unaccounted", f"the rollup {what} is {have[what]}, its entries add up to {want[what]}")


def _names(user_id: int, second: int, model: str, provider: str, *, key: int) -> Iterator[Name]:
    """The rollups that something of this moment is in."""
    for span in OWN:
        yield user_id, span, second // span * span, model, provider, key
    for span in ALL:
        yield 0, span, second // span * span, model, provider, 0


def _added(entry: Entry) -> dict[str, int]:
    charge = entry.kind == "charge"
    counts = {
        "requests": int(charge),
        "errors": int(charge and entry.error_kind is not None),
        "unpriced": int(entry.cost_nano is None),
        "cost_nano": entry.cost_nano or 0,
    }
    return counts | {name: getattr(entry, name) for name in METERS}
