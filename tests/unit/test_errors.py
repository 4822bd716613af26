"""The tree of errors, its drawing and its documentation say the same."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from service import errors
from service.api.errors import CODES
from service.errors import EverturnError

DOCUMENT = Path(__file__).parents[2] / "docs" / "errors.md"


def tree(kind: type[EverturnError] = EverturnError) -> Iterator[type[EverturnError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from tree(below)


def test_the_drawing_shows_every_error() -> None:
    drawn = set(re.findall(r"(\w+) +(\d{3})  (\w+)", errors.__doc__ or ""))
    assert drawn == {(kind.__name__, str(kind.status), kind.code) for kind in tree()}


def test_the_document_explains_every_code() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\d{3}) \|", DOCUMENT.read_text(), re.MULTILINE)
    known = {(kind.code, str(kind.status)) for kind in tree()} | {(code, str(number)) for number, code in CODES.items()}
    assert set(rows) == known
    assert len(rows) == len(known)


@pytest.mark.parametrize("kind", dict.fromkeys(tree()))
def test_what_is_unavailable_says_when_to_come_back(kind: type[EverturnError]) -> None:
    assert (kind().retry_after is not None) == (kind.status == 503)
