"""Titles: what people would call a conversation that begins so."""

import time
from unicodedata import category

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.history import Line
from service.domain.titles import LONGEST, tidy, title_of

LONG = "the quick brown fox jumps over the lazy dog and runs away from all of the hounds"
FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"


def named(*texts: str) -> str | None:
    return title_of([Line("user", text) for text in texts])


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("How do I sort a list?", "How do I sort a list?"),
        ("  many\n\n  lines\tand   spaces ", "many lines and spaces"),
        (
            "How do I sort a list in Python? I have 200 dictionaries, each with a name.",
            "How do I sort a list in Python?",
        ),
        ("Well. I need help with the migration of a rather old database to a newer one", None),
        ("# Plan\n\nThe text below", "Plan The text below"),
        ("> quoted\n- **bold** and `code`\n1. [a link](https://example.org/x)", "quoted bold and code a link"),
        ("Why does this fail?\n```python\nraise ValueError\n```", "Why does this fail?"),
        ("```sql\nSELECT 1\n```", "SELECT 1"),
        ("```\nunclosed fence", "unclosed fence"),
        ("Summarise https://www.example.org/a/very/long/path?with=query#part for me", "Summarise example.org for me"),
        ("See https://example.org/a.", "See example.org."),
        ("https://user:secret@example.org/docs/page/?q=1", "example.org/docs/page"),
        ("![chart](data:image/png;base64,AAAA) what is it?", "chart what is it?"),
        ("Hi there! How are bees made?", "How are bees made?"),
        ("hello, hello! what is it", "What is it"),
        ("Guten Tag, wie wird das Wetter?", "Wie wird das Wetter?"),
        ("Hi", "Hi"),
        ("Hello there!", "Hello there!"),
        ("Historical maps", "Historical maps"),
        ("こんにちは。天気はどうですか", "天気はどうですか"),
        ("👍", "👍"),
        ("???", "???"),
        ("2 + 2 * 3", "2 + 2 * 3"),
        ("snake_case_name and __init__.py", "snake_case_name and init.py"),
        ("مرحبا، كيف حالك؟", "كيف حالك؟"),
        ("\u202eevil\u202c text\u200b", "evil text"),
    ],
)
def test_a_question_is_named_as_people_would(text: str, title: str | None) -> None:
    made = named(text)
    assert made is not None
    if title is None:
        assert made.endswith("…")
    else:
        assert made == title


def test_a_long_line_is_cut_at_a_word() -> None:
    assert named(LONG) == "the quick brown fox jumps over the lazy dog and runs away…"
    assert named("x" * 500) == "x" * LONGEST + "…"
    assert named("天" * 500) == "天" * LONGEST + "…"


@pytest.mark.parametrize("one", [FAMILY, "👍\U0001f3fd", "e\u0301\u0302", "🇫🇷", "❤\ufe0f"])
@pytest.mark.parametrize("before", range(5))
def test_what_is_seen_as_one_character_is_not_cut(one: str, before: int) -> None:
    made = named("x" * before + one * 60)
    assert made is not None
    assert made.endswith("…")
    assert (made.removesuffix("…")[before:]).replace(one, "") == ""


def test_what_cannot_name_it_is_passed_over() -> None:
    assert named("", " \n", "Then this") == "Then this"
    assert named("", "\u200b") is None
    assert title_of([Line("system", "Be brief"), Line("assistant", "Hello")]) is None
    assert title_of([Line("assistant", "Hello"), Line("user", "Bye")]) == "Bye"


@pytest.mark.parametrize(
    "text", ["a" * 100_000, "# " * 50_000, "[" * 100_000, "*" * 100_000, "```\n" * 25_000, "hi " * 33_000]
)
def test_a_hundred_kilobytes_cost_next_to_nothing(text: str) -> None:
    started = time.perf_counter()
    named(text)
    assert time.perf_counter() - started < 0.2


@given(st.text(max_size=300))
def test_a_title_is_one_short_line_that_begins_and_ends_with_something(text: str) -> None:
    for made in (named(text), tidy(text)):
        if made is not None:
            assert 0 < len(made) <= LONGEST + 1
            assert made == made.strip()
            assert not any(category(letter) == "Cc" for letter in made)


@pytest.mark.parametrize(
    ("proposed", "title"),
    [
        ("Sorting Lists in Python", "Sorting Lists in Python"),
        ('"Sorting Lists in Python."', "Sorting Lists in Python"),
        ("Title: **Sorting lists**\n\nI chose this because", "Sorting lists"),
        ("<think>Hm, what\nnow</think>\n\n# „Bienen“", "Bienen"),
        ("<think>cut off before its end", None),
        ("", None),
        ("\n \n", None),
        ("What is a monad?", "What is a monad?"),
        (LONG, "the quick brown fox jumps over the lazy dog and runs away…"),
        ("a\x00b\x1b[31mred\u202e", "ab[31mred"),
    ],
)
def test_what_models_put_around_a_title_goes(proposed: str, title: str | None) -> None:
    assert tidy(proposed) == title
