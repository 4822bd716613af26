"""Objects are found in a stream however it is cut into chunks, and a broken one spoils only itself."""

import io
import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.domain.porting.pieces import NotJsonError, Piece, split

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(alphabet='ab"\\{}[]\n\t,é漢\U0001f600 '),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(alphabet='a"\\{}[]', max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)
OBJECTS = st.lists(st.dictionaries(st.text(max_size=4), VALUES, max_size=4), max_size=5)


def pieces(data: bytes, chunk: int = 1 << 16, most: int = 1_000_000) -> list[Piece]:
    return list(split(io.BytesIO(data), most, chunk=chunk))


@given(OBJECTS, st.booleans(), st.booleans(), st.integers(1, 20))
@settings(max_examples=200, deadline=None)
def test_a_list_and_lines_hold_the_same_objects(values: list[Any], ascii_only: bool, lines: bool, chunk: int) -> None:
    texts = [json.dumps(value, ensure_ascii=ascii_only) for value in values]
    data = ("\n".join(texts) if lines else f"\ufeff [ {' , '.join(texts)} ]\n").encode()
    found = pieces(data, chunk)
    assert [json.loads(one.text) for one in found] == values
    assert not any(one.problem for one in found)


@pytest.mark.parametrize("chunk", [1, 2, 7, 1000])
def test_what_is_broken_inside_is_a_piece_of_its_own(chunk: int) -> None:
    data = b'[{"a":1,}, {"b":[1,:]}, {"c":"\\"}"}, [2], {"d":4}]'
    assert [one.text for one in pieces(data, chunk)] == [
        b'{"a":1,}',
        b'{"b":[1,:]}',
        b'{"c":"\\"}"}',
        b"[2]",
        b'{"d":4}',
    ]


@pytest.mark.parametrize("chunk", [1, 3, 1000])
@pytest.mark.parametrize(
    ("data", "whole"), [(b'[{"a":1},{"b":"x', 1), (b'[{"a":1}', 1), (b'{"a":1}\n{"b":"\\', 1), (b"[", 0), (b'{"', 0)]
)
def test_a_file_that_is_cut_off_says_so_at_its_end(data: bytes, whole: int, chunk: int) -> None:
    *kept, last = pieces(data, chunk)
    assert len(kept) == whole
    assert (last.text, last.problem[:8]) == (b"", "The file")


@pytest.mark.parametrize("chunk", [1, 3, 1000])
@pytest.mark.parametrize(
    "data", [b"<html>", b"[1]", b'["a"]', b"]", b"}", b"[{}}", b'{"a":1} x', b"\x00", b"null", b"PK"]
)
def test_anything_else_between_objects_is_refused(data: bytes, chunk: int) -> None:
    with pytest.raises(NotJsonError):
        pieces(data, chunk)


@pytest.mark.parametrize("chunk", [7, 1000])
def test_one_that_is_too_long_is_passed_over(chunk: int) -> None:
    first, second = pieces(b'[{"a":"%s"},{"b":1}]' % (b"x" * 100), chunk, most=50)
    assert (first.text, first.problem) == (b"", "It has more than 50 bytes.")
    assert second.text == b'{"b":1}'


class Endless:
    """A list of 60,000 objects of a kilobyte each that nobody holds."""

    def __init__(self) -> None:
        self.left = 60_000

    def read(self, size: int, /) -> bytes:
        assert size > 0
        if self.left == 0:
            return b""
        self.left -= 1
        return (b"[" if self.left == 59_999 else b"") + b'{"a":"%s"},' % (b"x" * 1000)


def test_the_memory_is_that_of_one_object() -> None:
    tracemalloc.start()
    count = sum(1 for one in split(Endless(), 10_000) if not one.problem)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 60_000
    assert peak < 500_000


def test_brackets_without_end_are_one_long_object() -> None:
    [one] = pieces(b"[" * 300_000, most=1000)
    assert one.problem
