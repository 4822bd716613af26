"""Folded journals: whatever was journalled, exactly that is told again, from the text that the message holds."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import to_json

from service.domain.events import Event, pack
from service.domain.folds import FOLDED_CHARS, FOLDED_EVENTS, Fold, Kept, Row, fold, tell

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=40) | st.integers(
    0, 3000
).map("é".__mul__)
PIECES = st.lists(st.tuples(st.sampled_from(["text", "reasoning"]), TEXT), max_size=40)
USAGE = {"input_tokens": 3, "cost_usd": "0.000004500", "finish_reason": "stop"}
DONE: list[tuple[Any, Any]] = [("usage", USAGE), ("done", {"status": "completed", "finish_reason": "stop"})]
ERROR: list[tuple[Any, Any]] = [("error", {"status": 503, "code": "worker_lost", "detail": "Né\n“gone”", "n": None})]


def journal(pieces: list[tuple[Any, Any]], cuts: list[int]) -> list[Row]:
    """Events in rows that end after so many of them."""
    events = [Event(seq, kind, data) for seq, (kind, data) in enumerate(pieces, start=1)]
    edges = sorted({0, len(events), *(cut for cut in cuts if cut < len(events))})
    rows = [events[low:high] for low, high in pairwise(edges)]
    return [Row(some[0].seq, some[-1].seq, some, len(to_json(pack(some)).decode())) for some in rows]


def said(pieces: list[tuple[Any, Any]], kind: str) -> str:
    return "".join(data for name, data in pieces if name == kind)


def held(pieces: list[tuple[Any, Any]]) -> Kept:
    return Kept(said(pieces, "text"), said(pieces, "reasoning"))


def retold(made: Fold, kept: Kept) -> list[Event]:
    return tell(made.seq, made.data, kept.part(made.spans))


@given(PIECES, st.sampled_from([DONE, ERROR]), st.lists(st.integers(1, 40)), st.integers(0, 40))
def test_what_is_folded_is_told_again(
    spoken: list[tuple[str, str]], end: list[tuple[Any, Any]], cuts: list[int], later: int
) -> None:
    pieces = [*spoken, *end]
    rows, kept = journal(pieces, cuts), held(pieces)
    events = [event for row in rows for event in row.events]
    made = fold(rows, kept)
    assert sum(one.rows for one in made) == len(rows) or len(rows) == 1
    assert [event for one in made for event in retold(one, kept)] in ([], events)
    # Some of it folded before, the rest now: a worker was killed between.
    before = [row._replace(folded=row.seq <= later) for row in rows]
    plain = sum(not row.folded for row in before)
    again = fold(before, kept)
    assert sum(one.rows for one in again) in (plain, 0) or plain == 1
    for one in again:
        assert retold(one, kept) == events[one.seq - 1 : one.last_seq]


def test_rows_are_as_large_as_one_look_takes() -> None:
    pieces: list[tuple[Any, Any]] = [("text", "ab")] * 3000 + [("text", "é" * 30_000)] * 4 + DONE
    for cuts in ([], [2500, 3001], list(range(1, 3010))):
        rows, kept = journal(pieces, cuts), held(pieces)
        made = fold(rows, kept)
        assert [one.seq for one in made][1:] == [one.last_seq + 1 for one in made][:-1]
        for one in made:
            events = one.last_seq - one.seq + 1
            assert one.rows == 1 or (events <= FOLDED_EVENTS and one.spans.text_size <= FOLDED_CHARS)
        told = [event for one in made for event in retold(one, kept)]
        assert [(event.kind, event.data) for event in told] == pieces


@pytest.mark.parametrize(
    ("rows", "content", "reasoning"),
    [
        pytest.param(journal([("text", "a"), ("text", "b"), *DONE], [1]), "ax", "", id="another text"),
        pytest.param(journal([("text", "a"), ("text", "b"), *DONE], [1]), "ab", "c", id="another reasoning"),
        pytest.param(journal([("text", "a"), ("text", "b"), *DONE], [1]), "", "", id="emptied"),
        pytest.param(journal([("text", "a"), ("text", "b")], [1]), "ab", "", id="no end"),
        pytest.param(journal([("text", "a"), ("text", "b"), *DONE], [1])[1:], "b", "", id="no beginning"),
        pytest.param([journal([("text", "a"), *DONE], [1])[0], *journal(DONE, [])], "a", "", id="doubled"),
        pytest.param([], "", "", id="nothing"),
        pytest.param(journal(ERROR, []), "", "", id="only an end"),
    ],
)
def test_what_does_not_match_stays(rows: list[Row], content: str, reasoning: str) -> None:
    assert fold(rows, Kept(content, reasoning)) == []


def test_without_its_text_a_row_tells_its_end() -> None:
    """Somebody took the message away by hand: nothing wrong is told, and the stream ends."""
    pieces: list[tuple[Any, Any]] = [("text", "Hello"), ("text", ", you"), *DONE]
    (made,) = fold(journal(pieces, [1, 2, 3]), Kept("Hello, you", ""))
    for text in (None, "", "Hello", "Hello, you!"):
        assert [event.seq for event in tell(made.seq, made.data, text)] == [3, 4]


def test_a_version_that_does_not_know_it_fails_at_it() -> None:
    (made,) = fold(journal([("text", "Hello"), *DONE], [1]), Kept("Hello", ""))
    with pytest.raises(ValueError, match="too many values"):
        [(kind, value) for kind, value in json.loads(made.data)]  # how rows were read before
