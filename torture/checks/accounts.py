"""Every attempt is accounted: one entry each, the provider's numbers where it told them, the right price."""

from collections.abc import Iterator
from fractions import Fraction

from torture.checks.answers import source, told, usage
from torture.evidence import Call, Evidence, Finding
from torture.plan import MODELS
from torture.rows import Completion, Entry

PRICES = {model.id: model for model in MODELS}
SANE = 10**9
METERS = ("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens")
NAMES = dict(zip(METERS, ("input", "read", "written", "output", "reasoning"), strict=True))


def check(evidence: Evidence) -> Iterator[Finding]:
    """unaccounted, duplicated."""
    for row in evidence.completions:
        yield from _attempts(evidence, row)
        yield from _usage(evidence, row)
    for entry in evidence.entries:
        if entry.cost_nano != cost(entry):
            yield Finding("unaccounted", f"entry {entry.id} costs {entry.cost_nano}, not {cost(entry)}")


def cost(entry: Entry) -> int | None:
    """Price times meters in nano-dollars, rounded half to even once; None for a model without a price.

    An attempt that was lost before anything was said used nothing and costs nothing, priced or not.
    """
    model = PRICES[entry.model]
    if not any(getattr(entry, name) for name in METERS) and entry.cost_nano == 0:
        return 0
    if model.input is None or model.output is None:
        return None
    pairs = (
        (model.input, entry.input_tokens),
        (model.cache_read or model.input, entry.cache_read_tokens),
        (model.cache_write or model.input, entry.cache_write_tokens),
        (model.output, entry.output_tokens),
    )
    # A dollar per million tokens is a thousand nano-dollars a token; Python rounds a fraction half to even.
    return round(sum(Fraction(price) * 1000 * tokens for price, tokens in pairs))


def _attempts(evidence: Evidence, row: Completion) -> Iterator[Finding]:
    numbers = sorted(attempt.number for attempt in evidence.attempts_of[row.id])
    if numbers != list(range(1, row.attempt_count + 1)):
        yield Finding("unaccounted", f"completion {row.id} counts {row.attempt_count} attempts and has {numbers}")
    charged = sorted(entry.attempt for entry in evidence.entries_of[row.id] if entry.kind == "charge")
    if len(set(charged)) < len(charged):
        yield Finding("duplicated", f"completion {row.id} is charged for the attempts {charged}")
    elif charged != numbers and row.status not in ("queued", "in_progress"):
        yield Finding("unaccounted", f"completion {row.id} has the attempts {numbers} and entries for {charged}")


def _usage(evidence: Evidence, row: Completion) -> Iterator[Finding]:
    entries = evidence.entries_of[row.id]
    if not entries or row.status in ("queued", "in_progress"):
        return
    summed = {name: sum(getattr(entry, name) for entry in entries) for name in METERS}
    if usage(row) != summed:
        yield Finding("unaccounted", f"completion {row.id} used {usage(row)}, its entries say {summed}")
    costs = [entry.cost_nano for entry in entries]
    if row.cost_nano != (None if None in costs else sum(one or 0 for one in costs)):
        yield Finding("unaccounted", f"completion {row.id} cost {row.cost_nano}, its entries {costs}")
    counts = [_meters(call.count) for call in evidence.calls_of[row.max_tokens or 0] if call.count]
    for entry in entries:
        yield from _told(entry, counts)
    last = max(entries, key=lambda entry: entry.attempt)
    yield from _received(evidence, row, last, {name: getattr(last, name) for name in METERS})


def _told(entry: Entry, counts: list[dict[str, int]]) -> Iterator[Finding]:
    """What is said to be the provider's count is; where it told a part, the input at least."""
    names = {"provider": METERS, "partial": METERS[:3]}.get(entry.provenance, ())
    meters = {name: getattr(entry, name) for name in names}
    if meters not in [{name: count[name] for name in names} for count in counts] and names:
        yield Finding(
            "unaccounted", f"entry {entry.id} ({entry.provenance}) has {meters}, which the provider never told"
        )


def _received(evidence: Evidence, row: Completion, last: Entry, meters: dict[str, int]) -> Iterator[Finding]:
    """An answer that came to its end had its usage read, where there was one to read."""
    if row.status != "completed" and row.finish_reason not in ("length", "content_filter"):
        return
    said = told(evidence, row.id) if row.stored else None
    call = source(evidence, row, said.text, said.thought) if said else _only(evidence, row)
    if call is None:
        return
    sane = call.count is not None and max(call.count.values()) <= SANE
    want = ("provider", _meters(call.count)) if call.count and sane else ("estimated", meters)
    if (last.provenance, meters) != want:
        yield Finding("unaccounted", f"entry {last.id} has {last.provenance} {meters}; call {call.call} told {want}")


def _only(evidence: Evidence, row: Completion) -> Call | None:
    """The call of a turn whose words were not kept, where only one can have been its answer."""
    calls = [call for call in evidence.calls_of[row.max_tokens or 0] if call.finish]
    return calls[0] if len(calls) == 1 else None


def _meters(count: dict[str, int]) -> dict[str, int]:
    return {name: count[short] for name, short in NAMES.items()}
