"""Cleaned text: always encodable, changed only where it must be, the same in pieces as whole."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.text import Cleaner, clean

wild = st.text(st.characters(exclude_categories=()) | st.sampled_from("\x00\ud83d\ude00aä"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("plain", "plain"),
        ("Grüße 🌍", "Grüße 🌍"),
        ("a\x00b", "a\ufffdb"),
        ("ä\x00", "ä\ufffd"),
        ("\ud83d\ude00", "😀"),
        ("\ud83d", "\ufffd"),
        ("\ude00\ud83d", "\ufffd\ufffd"),
        ("\ud83d\ud83d\ude00\x00", "\ufffd😀\ufffd"),
    ],
)
def test_text_is_cleaned(text: str, expected: str) -> None:
    assert clean(text) == expected


@given(wild)
def test_cleaned_text_encodes_and_stays_as_it_is(text: str) -> None:
    cleaned = clean(text)
    assert "\x00" not in cleaned
    assert cleaned.encode().decode() == cleaned == clean(cleaned)


@given(st.lists(wild))
def test_pieces_say_what_the_whole_says(pieces: list[str]) -> None:
    cleaner = Cleaner()
    said = "".join([cleaner.feed(piece) for piece in pieces]) + cleaner.finish()
    assert said == clean("".join(pieces))
