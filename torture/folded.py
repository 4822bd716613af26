"""Folded rows of the journal, told from the messages by what decision 16 says of them; none of the code is shared."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from torture.rows import Completion, Journalled, Message

DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def unfold(
    events: Iterable[Journalled], completions: Iterable[Completion], messages: Mapping[int, Message]
) -> list[Journalled]:
    """The same rows, each with the list that it had before it was folded."""
    answers = {row.id: messages.get(row.message_id or 0) for row in completions}
    return [replace(row, data=_list(row, answers.get(row.completion_id))) if row.spans else row for row in events]


def _list(row: Journalled, message: Message | None) -> str:
    text_at, text_size, thought_at, thought_size = json.loads(row.spans or "")
    said = row.said or ""
    if message and row.said is None:
        said = message.content[text_at : text_at + text_size]
        said += (message.reasoning or "")[thought_at : thought_at + thought_size]
    rest = {"text": said[:text_size], "reasoning": said[text_size:]}
    events: list[tuple[str, Any]] = []
    for kind, value in json.loads(row.data)["folded"]:
        for size in _sizes(value) if kind in rest else ():
            events.append((kind, rest[kind][:size]))
            rest[kind] = rest[kind][size:]
        if kind not in rest:
            events.append((kind, value))
    return json.dumps(events)


def _sizes(digits: str) -> Iterator[int]:
    size = place = 0
    for digit in digits:
        value = DIGITS.index(digit)
        size += (value & 31) << place
        place += 5
        if value < 32:
            yield size
            size = place = 0
