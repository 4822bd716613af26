"""Every stream is the same stream: numbers without gaps, one end, and the same bytes whoever reads it and when."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from torture.evidence import Evidence, Exchange, Finding
from torture.rows import Completion

ID = re.compile(r"^id: (\d+):(\d+)\n")
AFTER = re.compile(r"starting_after=(\d+)")
DONE = "data: [DONE]"
UNNUMBERED = (": ", "event: reconnect\n")


@dataclass(frozen=True, slots=True)
class Block:
    """One numbered event as it was sent."""

    completion: int
    seq: int
    text: str

    @property
    def over(self) -> bool:
        return DONE in self.text or "\nevent: error\n" in self.text

    @property
    def token(self) -> bool:
        return '\ndata: {"token"' in self.text or "\nevent: reasoning\n" in self.text


def check(evidence: Evidence) -> Iterator[Finding]:
    """gap, diverged, lost, stuck."""
    rows = {row.id: row for row in evidence.completions}
    shown: dict[int, dict[int, str]] = {}
    for row in evidence.completions:
        if row.stored:
            yield from _journal(evidence, row)
            shown[row.id] = {}
            yield from _read_back(evidence, row, shown[row.id])
    fleeting: dict[tuple[int, int], str] = {}
    for one in evidence.exchanges:
        if not one.streamed or one.completion not in rows:
            continue
        heard = blocks(one.text)
        yield from _in_order(heard, _start(one), f"stream {one.n} of completion {one.completion}")
        for block in heard:
            if rows[one.completion].stored:
                yield from _same(block, shown[one.completion].get(block.seq), one.n)
            elif block.token:
                first = fleeting.setdefault((block.completion, block.seq), block.text)
                yield from _same(block, first, one.n)


def blocks(text: str) -> list[Block]:
    """The whole, numbered events of a stream."""
    parts = text.split("\n\n")[:-1]
    found = [(ID.match(part), part) for part in parts]
    return [Block(int(one[1]), int(one[2]), part) for one, part in found if one]


def _start(one: Exchange) -> int:
    """The number with which a stream has to begin."""
    if named := AFTER.search(one.path):
        return int(named[1]) + 1
    return 0 if one.after is None else one.after + 1


def _in_order(heard: list[Block], start: int, what: str) -> Iterator[Finding]:
    numbers = [block.seq for block in heard]
    if numbers != list(range(start, start + len(numbers))):
        yield Finding("gap", f"{what} has the numbers {numbers[:40]}, from {start} on")
    if any(block.over for block in heard[:-1]):
        yield Finding("duplicated", f"{what} goes on after its end")


def _same(block: Block, stored: str | None, number: int) -> Iterator[Finding]:
    if stored is None:
        yield Finding("lost", f"event {block.completion}:{block.seq} was shown (stream {number}) and is not there")
    elif stored != block.text:
        yield Finding("diverged", f"event {block.completion}:{block.seq} was another one in stream {number}")


def _journal(evidence: Evidence, row: Completion) -> Iterator[Finding]:
    """The journal's rows number every event once, and end with one end."""
    upcoming, kinds = 1, []
    for part in sorted(evidence.events_of[row.id], key=lambda one: one.seq):
        events = json.loads(part.data)
        if (part.seq, part.last_seq) != (upcoming, upcoming + len(events) - 1):
            yield Finding("gap", f"completion {row.id} journals {part.seq} to {part.last_seq} where {upcoming} follows")
        upcoming = part.last_seq + 1
        kinds += [event[0] for event in events]
        yield from _end(row, events)
    ends = [index for index, kind in enumerate(kinds) if kind in ("done", "error")]
    if row.status not in ("queued", "in_progress") and ends != [len(kinds) - 1]:
        yield Finding("stuck" if not ends else "duplicated", f"completion {row.id} has the ends {ends} of {len(kinds)}")


def _end(row: Completion, events: list[tuple[str, dict[str, object]]]) -> Iterator[Finding]:
    for kind, data in events:
        if kind == "done" and data.get("status") != row.status:
            yield Finding("diverged", f"completion {row.id} is {row.status}, its last event says {data.get('status')}")
        if kind == "error" and data.get("code") != row.error_code:
            yield Finding(
                "diverged", f"completion {row.id} failed as {row.error_code}, its stream as {data.get('code')}"
            )


def _read_back(evidence: Evidence, row: Completion, shown: dict[int, str]) -> Iterator[Finding]:
    """The whole stream, and one taken up in the middle, as the API gives them when all is over."""
    reading = evidence.reading.get(row.id)
    if reading is None:
        return
    heard, tail = blocks(reading.stream), blocks(reading.tail)
    shown.update({block.seq: block.text for block in heard})
    yield from _in_order(heard, 0, f"the read-back of completion {row.id}")
    if not heard or not heard[-1].over:
        yield Finding("stuck", f"the stream of completion {row.id} does not end")
    # Whoever has the end already may be told it again, and nothing else.
    want = [block.text for block in heard[reading.after + 1 :]]
    if [block.text for block in tail] not in (want, want or [block.text for block in heard[-1:]]):
        yield Finding("diverged", f"completion {row.id} resumed after {reading.after} is another stream")
    last = max((part.last_seq for part in evidence.events_of[row.id]), default=0)
    if len(heard) != last + 1:
        yield Finding("gap", f"completion {row.id} has {last} events in the journal and {len(heard) - 1} in its stream")
