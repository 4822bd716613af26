"""Cursors: what was sealed is read back, and nothing else is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.cursors import Cursors

CURSORS = Cursors(b"a secret that all workers share")
values = st.lists(
    st.none() | st.integers(-(2**63), 2**63) | st.text(st.characters(exclude_categories=["Cs"])), max_size=4
)


@given(scope=st.text(), held=values, backwards=st.booleans())
def test_a_cursor_opens_to_what_was_sealed(scope: str, held: list[int | str | None], backwards: bool) -> None:
    assert CURSORS.open(scope, CURSORS.seal(scope, held, backwards)) == (held, backwards)


@given(scope=st.text(), other=st.text(), held=values)
def test_another_lists_cursor_does_not_open(scope: str, other: str, held: list[int | str | None]) -> None:
    if scope != other:
        with pytest.raises(ValueError, match="another list's"):
            CURSORS.open(other, CURSORS.seal(scope, held, False))


@given(held=values, at=st.integers(0), letter=st.sampled_from("AZaz09-_=+/ é"))
def test_a_changed_cursor_does_not_open(held: list[int | str | None], at: int, letter: str) -> None:
    cursor = CURSORS.seal("list", held, False)
    at %= len(cursor)
    changed = cursor[:at] + letter + cursor[at + 1 :]
    if changed != cursor:
        with pytest.raises(ValueError):  # noqa: PT011  # not ASCII, not base64 or not sealed
            CURSORS.open("list", changed)


@given(st.text())
def test_any_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        CURSORS.open("list", text)


def test_another_secret_does_not_open() -> None:
    with pytest.raises(ValueError, match="another list's"):
        Cursors(b"another secret").open("list", CURSORS.seal("list", [1], False))
