"""The language of search, ranking and snippets, without a database but for SQLite's own reading of a query."""

import html
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from service.domain.filters import SearchFilter
from service.domain.search import MOST_WORDS, Query, parse, score
from service.domain.snippets import LENGTH, MOST_HITS, Snippets
from service.domain.words import LONGEST_TEXT, fold
from service.repositories.search_postgres import SHIFTS, Block, cover
from service.repositories.search_sqlite import _match

TEXT = st.text(max_size=200)
# Closer to what breaks parsers than any text is.
SYNTAX = st.text(st.sampled_from("ab é\"'-“”*()&|!:<>\\_^ \t\n今"), max_size=60)


@pytest.mark.parametrize(
    ("text", "wanted", "unwanted"),
    [
        ("Hello  World", ("hello", "world"), ()),
        ('"Hello, World" again', ("hello world", "again"), ()),
        ('say "hello wor', ("say", "hello wor"), ()),
        ('a"b c"d', ("a", "b c", "d"), ()),
        ("-a -“b c” --d e-f", ("e f",), ("a", "b c", "d")),
        ("- a", ("a",), ()),
        ("a a A á", ("a",), ()),
        ("東京 tower", ("東 京", "tower"), ()),
        ("OR and NOT", ("or", "and", "not"), ()),
        ("?! … — 'tis", ("tis",), ()),
        ("", (), ()),
    ],
)
def test_a_text_is_read_as_words_phrases_and_what_must_not_be(
    text: str, wanted: tuple[str, ...], unwanted: tuple[str, ...]
) -> None:
    assert parse(text) == Query(wanted, unwanted)


@given(TEXT | SYNTAX)
@example("\x00 \ud800 a")
def test_every_text_is_a_query_of_few_plain_words(text: str) -> None:
    query = parse(text)
    for one in (*query.wanted, *query.unwanted):
        assert one == fold(one) == " ".join(one.split()) != ""
        assert not set(one) & set("\x00\"'\\_&|!()<>:*^-")
    assert sum(len(one.split()) for one in (*query.wanted, *query.unwanted)) <= MOST_WORDS
    assert set(query.words) == {word for one in query.wanted for word in one.split()}


@pytest.fixture(scope="module")
def fts() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:")) as made:
        made.execute("CREATE VIRTUAL TABLE t USING fts5(w, detail = 'none', tokenize = \"ascii tokenchars '_'\")")
        yield made


@given(TEXT | SYNTAX)
def test_sqlite_takes_every_query(fts: sqlite3.Connection, text: str) -> None:
    query = parse(text)
    asked = _match(SearchFilter(7, query, role="user", conversation_id=3))
    words = ["u_7", "c_3", "r_user", *query.words]
    fts.execute("INSERT INTO t VALUES (?)", (" ".join(words),))
    found = len(fts.execute("SELECT rowid FROM t WHERE t MATCH ?", (asked,)).fetchall())
    fts.execute("DELETE FROM t")
    assert found == (0 if set(query.barred) & set(words) else 1)


def test_more_of_it_in_less_text_is_better() -> None:
    tea = parse("tea")
    assert score(tea, "tea tea") > score(tea, "tea") > score(tea, "tea" + " x" * 500) > 0
    both = parse("green tea")
    assert score(both, "green tea x y") > score(both, "tea green x y") > score(both, "tea green x y" + " z" * 500)
    assert 0 < score(parse("unseen"), "words beyond what is ranked by") < 1


@given(TEXT | SYNTAX, TEXT | SYNTAX)
@example("a b", "x " * 300 + "A, b! " + "y " * 300)
@example("c", "<b>&c</b>" * 100)
@example("c", "\n\n\n c " + "\n" * 500)
def test_a_snippet_is_a_passage_of_the_text_with_marks_and_no_other_tag(asked: str, text: str) -> None:
    made = Snippets(parse(asked)).make(text)
    assert set(re.findall(r"<[^>]*>", made)) <= {"<mark>", "</mark>"}
    assert re.sub(r"<mark>[^<]*</mark>", "", made).count("<") == 0
    bare = html.unescape(re.sub(r"</?mark>", "", made)).removeprefix("… ").removesuffix(" …")
    assert re.sub(r"\s+", " ", bare).strip() in re.sub(r"\s+", " ", text)
    assert len(bare) <= LENGTH


@given(st.lists(st.sampled_from(["alpha", "Béta", "gamma", "今", "日", "x-y", "…", "\n", "<i>"]), max_size=200))
def test_what_matches_is_marked(parts: list[str]) -> None:
    text = " ".join(parts)
    made = Snippets(parse('beta "今 日" alpha')).make(text)
    words = f" {fold(text)} "
    assert ("<mark>" in made) == any(f" {one} " in words for one in ("beta", "今 日", "alpha"))
    for marked in re.findall(r"<mark>(.*?)</mark>", made):
        assert fold(marked) in {"beta", "今 日", "alpha"}


def test_the_passage_with_most_of_what_was_asked_is_shown() -> None:
    text = "alpha " + "filler " * 100 + "alpha beta " + "filler " * 100 + "beta"
    made = Snippets(parse("alpha beta")).make(text)
    assert "<mark>alpha</mark> <mark>beta</mark>" in made
    assert made.startswith("… filler")
    assert made.endswith("filler …")


def test_a_longer_word_is_marked_whole_and_a_phrase_before_its_words() -> None:
    assert Snippets(parse("x" * 70)).make("x" * 70) == f"<mark>{'x' * 70}</mark>"
    assert Snippets(parse('big "big cat"')).make("big cat, big dog") == "<mark>big cat</mark>, <mark>big</mark> dog"


def test_very_long_messages_are_not_looked_through_for_ever() -> None:
    snippets = Snippets(parse("ähre"))
    made = [snippets.make("é " * (LONGEST_TEXT // 2 - 10) + "Ähre") for _ in range(10)]
    assert ["<mark>" in one for one in made] == [True] * 3 + [False] * 7
    assert Snippets(parse("a")).make("a " * 100_000).count("<mark>") <= MOST_HITS


MOMENTS = st.integers(-(10**11), 3 * 10**11)


@given(MOMENTS, MOMENTS, st.booleans())
@example(0, 1023, True)
@example(1_700_000_000, 1_800_000_000, False)
def test_blocks_cover_the_time_from_the_newest_on_without_a_gap(one: int, other: int, exact: bool) -> None:
    low, high = sorted((one, other))
    blocks = list(cover(low, high, exact=exact))
    assert len(blocks) <= 101
    top = ((high >> 10) + 1) << 10
    for block in blocks:
        if not block.shift:
            assert block == blocks[-1] == Block(0, top)
            return
        assert (block.number + 1) << block.shift == top
        top = block.number << block.shift
        assert not exact or top >= (low >> 10) << 10
    assert top <= low


@given(st.sampled_from(SHIFTS[1:]), st.integers(-(10**6), 10**6))
def test_a_block_is_its_parts(shift: int, number: int) -> None:
    parts = Block(shift, number).parts()
    assert parts[0].number + 1 << parts[0].shift == number + 1 << shift
    assert parts[-1].number << parts[-1].shift == number << shift
    assert [part.number for part in parts] == list(range(parts[0].number, parts[-1].number - 1, -1))
    assert Block(SHIFTS[0], number).parts() == Block(0, number).parts() == []
