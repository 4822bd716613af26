"""Bodies: what could not be stored or sent back is refused, and the refusal itself can be sent."""

import json
from typing import Any

import pytest
from fastapi.exceptions import RequestValidationError
from hypothesis import given
from hypothesis import strategies as st

from service.api.body import parse_json

safe_text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"))
safe = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | safe_text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(safe_text, inner, max_size=4),
    max_leaves=20,
)


def refusal(data: bytes) -> dict[str, Any]:
    with pytest.raises(RequestValidationError) as caught:
        parse_json(data)
    (mistake,) = caught.value.errors()
    json.dumps(mistake).encode()
    str(mistake).encode()
    return dict(mistake)


@given(value=safe, ascii_only=st.booleans())
def test_safe_json_is_read_as_it_is(value: Any, ascii_only: bool) -> None:
    assert parse_json(json.dumps(value, ensure_ascii=ascii_only).encode()) == value


@given(st.binary())
def test_no_bytes_break_the_parser(data: bytes) -> None:
    try:
        value = parse_json(data)
    except RequestValidationError:
        return
    json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    assert "\\u0000" not in json.dumps(value)


@pytest.mark.parametrize(
    ("data", "loc"),
    [
        (rb'{"a": {"b": ["x", "y\u0000"]}}', ("body", "a", "b", 1)),
        (rb'{"a": {"b\u0000": 1}}', ("body", "a")),
        (rb'"\u0000"', ("body",)),
        (b'{"a": 1e999}', ("body", "a")),
        (b'{"a": [-1e400]}', ("body", "a", 0)),
        (b'{"a": ' + b"9" * 400 + b".0}", ("body", "a")),
    ],
)
def test_what_is_unsafe_is_placed(data: bytes, loc: tuple[str | int, ...]) -> None:
    assert refusal(data)["loc"] == loc


@pytest.mark.parametrize(
    "data",
    [
        b'{"a": NaN}',
        b'{"a": Infinity}',
        rb'"\ud800"',
        rb'"\udc00\ud800"',
        b'"\xff"',
        b'"a\x00b"',
        b"[" * 300,
        b"{} x",
        b"{'a': 1}",
    ],
)
def test_what_is_not_json_is_called_that(data: bytes) -> None:
    mistake = refusal(data)
    assert mistake["type"] == "json_invalid"
    assert 0 <= mistake["loc"][1] <= len(data)


def test_a_mistake_is_placed_by_its_offset_over_lines() -> None:
    data = b'{\n  "a": 1,\n  "b": tru\n}'
    assert data[: refusal(data)["loc"][1]].count(b"\n") in (2, 3)


def test_an_escaped_pair_is_one_character() -> None:
    assert parse_json(rb'"\ud83d\ude00"') == "\U0001f600"


def test_written_backslashes_are_no_nul() -> None:
    assert parse_json(rb'"\\u0000"') == r"\u0000"
