"""What was said is what was kept: the message, its events, the provider's words and what the API reads back agree."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torture.evidence import Call, Evidence, Finding
from torture.rows import Completion

OVER = ("completed", "incomplete", "failed", "cancelled")


@dataclass(frozen=True, slots=True)
class Told:
    """An answer put together from its journalled events."""

    text: str
    thought: str


def check(evidence: Evidence) -> Iterator[Finding]:
    """diverged, unexpected, lost."""
    for row in evidence.completions:
        if row.status not in OVER:
            continue
        if row.stored:
            yield from _stored(evidence, row)
        elif evidence.events_of.get(row.id):
            yield Finding("unexpected", f"completion {row.id} was not to be stored, and its events are")
        yield from _record(evidence, row)
    yield from _replies(evidence)


def told(evidence: Evidence, completion: int) -> Told:
    """What the journal says that a turn said."""
    events = [event for one in sorted(evidence.events_of[completion], key=_seq) for event in json.loads(one.data)]
    return Told(*("".join(event[1] for event in events if event[0] == kind) for kind in ("text", "reasoning")))


def source(evidence: Evidence, row: Completion, text: str, thought: str) -> Call | None:
    """The call that said it: all of it for an answer that came to its end, else a beginning."""
    whole = row.status == "completed" or row.finish_reason in ("length", "content_filter")
    for call in evidence.calls_of[row.max_tokens or 0]:
        if whole and call.finish and (call.text, call.thought) == (text, thought):
            return call
        if not whole and call.text.startswith(text) and call.thought.startswith(thought):
            return call
    return None


def _stored(evidence: Evidence, row: Completion) -> Iterator[Finding]:
    message = evidence.message.get(row.message_id or 0)
    if message is None:
        return
    journal = told(evidence, row.id)
    if message.status != row.status:
        yield Finding("diverged", f"completion {row.id} is {row.status}, its message {message.status}")
    if (message.content, message.reasoning or "") != (journal.text, journal.thought):
        yield Finding("diverged", f"message {message.id} is not what the events of completion {row.id} say")
    if (message.content or row.status == "completed") and not source(evidence, row, journal.text, journal.thought):
        yield Finding("unexpected", f"completion {row.id} ({row.status}) says what no call said: {journal.text[:60]!r}")


def _record(evidence: Evidence, row: Completion) -> Iterator[Finding]:
    """The API's record is the rows'."""
    reading = evidence.reading.get(row.id)
    if reading is None or reading.status != 200:
        yield Finding("lost", f"completion {row.id} cannot be read back: {reading and reading.status}")
        return
    message = evidence.message.get(row.message_id or 0)
    names = ("id", "user_id", "conversation_id", "message_id", "model", "status", "finish_reason", "error_code")
    want = {name: getattr(row, name) for name in (*names, "attempt_count")} | {
        "content": message.content if message else None,
        "usage": usage(row),
        "cost_usd": row.cost_nano,
    }
    yield from _differences(f"the record of completion {row.id}", want, reading.record)


def usage(row: Any) -> dict[str, int] | None:
    """The meters of a row, None where they are not known."""
    names = ("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens")
    return None if row.output_tokens is None else {name: getattr(row, name) for name in names}


def nano(dollars: str | None) -> int | None:
    """An exact decimal string in nano-dollars."""
    if dollars is None:
        return None
    whole, _, part = dollars.partition(".")
    return int(whole) * 10**9 + int(part.ljust(9, "0"))


def _replies(evidence: Evidence) -> Iterator[Finding]:
    """Every answer in one piece that a client got is what the database has."""
    rows = {row.id: row for row in evidence.completions}
    for one in evidence.exchanges:
        if one.status != 201 or one.streamed or one.ended != "whole" or one.completion not in rows:
            continue
        row, got = rows[one.completion], json.loads(one.text)
        message = evidence.message.get(row.message_id or 0)
        want = {
            "status": row.status,
            "finish_reason": row.finish_reason,
            "usage": usage(row),
            "cost_usd": row.cost_nano,
        }
        if message:
            want["content"] = message.content
        yield from _differences(f"the reply of completion {row.id}", want, got)


def _differences(what: str, want: dict[str, Any], got: dict[str, Any]) -> Iterator[Finding]:
    for name, value in want.items():
        found = nano(got.get(name)) if name == "cost_usd" else got.get(name)
        if found != value:
            yield Finding("diverged", f"{what} has {name} {str(found)[:60]!r}, the database {str(value)[:60]!r}")


def _seq(row: Any) -> int:
    return int(row.seq)
