"""A turn's journal, folded: of each piece of the answer only its length, since the turn's message has the text.

Rows next to each other become one, whose `data` is {"folded": […]}: for pieces of one kind in a row the kind and their
lengths, and every other event as it is. A version that knows no folded rows fails at them rather than telling half.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from service.domain.events import TERMINAL, Event, EventKind, unpack

# A folded row holds no more than this, unless one that was folded did: whoever follows reads whole rows.
FOLDED_EVENTS, FOLDED_CHARS = 1024, 64 * 1024
SPOKEN: frozenset[EventKind] = frozenset({"text", "reasoning"})
# Lengths are written in base 32, least digit first, one of the upper half where more follow: a letter for most.
DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
VALUES = {digit: value for value, digit in enumerate(DIGITS)}


class Kept(NamedTuple):
    """What the turn's message holds."""

    content: str
    reasoning: str

    def part(self, spans: Sequence[int]) -> str:
        """What a folded row says: its text, then its reasoning."""
        text_at, text_size, thought_at, thought_size = spans
        return self.content[text_at : text_at + text_size] + self.reasoning[thought_at : thought_at + thought_size]


class Spans(NamedTuple):
    """Which characters of the answer, and of its reasoning, a folded row tells."""

    text_at: int
    text_size: int
    thought_at: int
    thought_size: int


class Stored(NamedTuple):
    """A row as the database has it: folded where it has `spans`; `said` where the message went."""

    seq: int
    last_seq: int
    data: str
    spans: Sequence[int] | None
    said: str | None


class Row(NamedTuple):
    """A row of the journal, told. `size` is the length of its data; a folded one stays as it is."""

    seq: int
    last_seq: int
    events: list[Event]
    size: int = 0
    folded: bool = False


class Fold(NamedTuple):
    """What takes the place of `rows` rows: the first of them, changed."""

    seq: int
    last_seq: int
    data: str
    spans: Spans
    rows: int


def tell(seq: int, data: str, said: str | None) -> list[Event]:
    """The events of a row whose first is `seq`. `said` is a folded row's text, then its reasoning.

    Without it, or with another than was folded, only the events that are no text are there, with their numbers.
    """
    return _tell(seq, json.loads(data), said)


def read(rows: Sequence[Stored], kept: Kept) -> list[Row]:
    """A journal told. Raises what reading something else raises."""
    # One text for the parser: journals have hundreds of rows.
    parsed = json.loads(f"[{','.join([row.data for row in rows])}]")
    return [
        Row(
            row.seq,
            row.last_seq,
            _tell(row.seq, data, _said(row, kept)),
            len(row.data),
            row.spans is not None,
        )
        for row, data in zip(rows, parsed, strict=True)
    ]


def fold(rows: Sequence[Row], kept: Kept) -> list[Fold]:
    """A whole journal folded, as far as that makes it smaller; [] where it is not exactly what the message holds."""
    events = [event for row in rows for event in row.events]
    if not _is_whole(rows, events) or (_text(events, "text"), _text(events, "reasoning")) != kept:
        return []
    folds, text_at, thought_at = [], 0, 0
    for group in _groups(rows):
        told = [event for row in group for event in row.events]
        spans = Spans(text_at, len(_text(told, "text")), thought_at, len(_text(told, "reasoning")))
        text_at, thought_at = text_at + spans.text_size, thought_at + spans.thought_size
        made = Fold(group[0].seq, group[-1].last_seq, _pack(told), spans, len(group))
        if not group[0].folded and _is_smaller(made, group) and _tells(made, told, kept):
            folds.append(made)
    return folds


def _tell(seq: int, data: Any, said: str | None) -> list[Event]:
    return _unfold(seq, data["folded"], said) if isinstance(data, dict) else unpack(seq, data)


def _said(row: Stored, kept: Kept) -> str | None:
    return row.said if row.spans is None or row.said is not None else kept.part(row.spans)


def _unfold(seq: int, folded: Iterable[tuple[EventKind, Any]], said: str | None) -> list[Event]:
    runs: list[tuple[EventKind, Any]] = [(kind, _sizes(value) if kind in SPOKEN else value) for kind, value in folded]
    text_size = sum(sum(value) for kind, value in runs if kind == "text")
    size = text_size + sum(sum(value) for kind, value in runs if kind == "reasoning")
    whole = said if said is not None and len(said) == size else None
    at = {"text": 0, "reasoning": text_size}
    events: list[Event] = []
    for kind, value in runs:
        for one in value if kind in SPOKEN else (value,):
            if kind not in SPOKEN:
                events.append(Event(seq, kind, one))
            elif whole is not None:
                events.append(Event(seq, kind, whole[at[kind] : at[kind] + one]))
                at[kind] += one
            seq += 1
    return events


def _is_whole(rows: Sequence[Row], events: Sequence[Event]) -> bool:
    """Whether it begins with the first event and ends with the last one, and has no gap."""
    fit = all((row.seq, row.last_seq) == (row.events[0].seq, row.events[-1].seq) for row in rows if row.events)
    counted = all(event.seq == number for number, event in enumerate(events, start=1))
    return fit and counted and all(row.events for row in rows) and bool(events) and events[-1].kind in TERMINAL


def _groups(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """Rows that become one; each that is folded already is alone."""
    group: list[Row] = []
    events = chars = 0
    for row in rows:
        more, longer = len(row.events), sum(len(event.data) for event in row.events if event.kind in SPOKEN)
        full = events + more > FOLDED_EVENTS or chars + longer > FOLDED_CHARS
        if group and (full or row.folded or group[-1].folded):
            yield group
            group, events, chars = [], 0, 0
        group.append(row)
        events, chars = events + more, chars + longer
    if group:
        yield group


def _pack(events: Iterable[Event]) -> str:
    runs: list[tuple[EventKind, Any]] = []
    for kind, some in groupby(events, key=lambda event: event.kind):
        if kind in SPOKEN:
            runs.append((kind, "".join(_digits(len(event.data)) for event in some)))
        else:
            runs += [(kind, event.data) for event in some]
    return _json({"folded": runs})


def _digits(size: int) -> str:
    """A length in base 32."""
    if size < 32:
        return DIGITS[size]
    return DIGITS[size % 32 + 32] + _digits(size // 32)


def _sizes(digits: str) -> list[int]:
    """The lengths that were written one behind the other."""
    sizes: list[int] = []
    size, unit = 0, 1
    for digit in digits:
        value = VALUES[digit]
        size += value % 32 * unit
        unit *= 32
        if value < 32:
            sizes.append(size)
            size, unit = 0, 1
    return sizes


def _is_smaller(made: Fold, rows: Sequence[Row]) -> bool:
    return len(rows) > 1 or len(made.data) + len(_json(made.spans)) < rows[0].size


def _tells(made: Fold, events: list[Event], kept: Kept) -> bool:
    """Whether exactly the same is told again, as it is written."""
    return _json(tell(made.seq, made.data, kept.part(made.spans))) == _json(events)


def _text(events: Iterable[Event], kind: EventKind) -> str:
    return "".join(event.data for event in events if event.kind == kind)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
