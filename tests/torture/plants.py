"""How a violation is planted: what is changed in a run's evidence, and as what it has to be found."""

from collections.abc import Callable
from typing import Any

from torture.evidence import Call, Evidence, Exchange
from torture.rows import Completion, Message

Plant = Callable[[Evidence], None]
PLANTED: list[tuple[str, str, Plant]] = []


def planted(kind: str, says: str) -> Callable[[Plant], Plant]:
    """A violation, the kind that it has to be found as, and words of the finding."""

    def note(plant: Plant) -> Plant:
        PLANTED.append((kind, says, plant))
        return plant

    return note


def swap(items: list[Any], old: Any, *new: Any) -> None:
    """Put others in the place of an item; none takes it out."""
    index = items.index(old)
    items[index : index + 1] = new


def acknowledged(evidence: Evidence) -> tuple[Completion, Exchange]:
    """A whole, stored, streamed turn of one attempt, and the exchange in which its client heard all of it."""
    for one in evidence.exchanges:
        row = next((row for row in evidence.completions if row.id == one.completion), None)
        whole = one.method == "POST" and one.streamed and "data: [DONE]" in one.text and one.text.count("token") > 2
        if row and whole and row.stored and row.status == "completed" and row.attempt_count == 1:
            return row, one
    raise AssertionError("the run has no such turn: take another seed")


def answer(evidence: Evidence) -> Message:
    row, _ = acknowledged(evidence)
    return next(message for message in evidence.messages if message.id == row.message_id)


def question(evidence: Evidence) -> Message:
    parent = answer(evidence).parent_id
    return next(message for message in evidence.messages if message.id == parent)


def call_of(evidence: Evidence) -> Call:
    row, _ = acknowledged(evidence)
    return next(call for call in evidence.calls if call.tag == row.max_tokens)
