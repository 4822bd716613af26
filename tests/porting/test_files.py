"""Files go round with the conversations: out in pieces, in again whole or not at all, and never over somebody's own."""

import json
from base64 import b64encode
from collections.abc import AsyncIterator
from hashlib import sha256
from secrets import token_bytes
from typing import Any

import pytest

from service.domain.etags import Conditions
from service.domain.porting.carried import PIECE_BYTES
from service.usecases.files import FileDraft
from tests.porting.house import House, comparable
from tests.porting.samples import chatgpt

LARGE = PIECE_BYTES * 2 + 5


async def put(house: House, user: int, path: str, data: bytes, kind: str = "text/plain") -> None:
    async def body() -> AsyncIterator[bytes]:
        yield data

    await house.files.put(user, FileDraft(path, kind, len(data), Conditions()), body())


async def read(house: House, user: int, path: str) -> bytes:
    file, reader = await house.files.open(user, path)
    try:
        return await reader.read(0, file.size)
    finally:
        reader.close()


def lines(*items: dict[str, Any]) -> bytes:
    return b"".join(
        json.dumps(one).encode() + b"\n" for one in ({"type": "export", "version": 1}, *items, {"type": "end"})
    )


def head(name: str, data: bytes, **fields: Any) -> dict[str, Any]:
    told = {"content_type": "text/plain", "size": len(data), "sha256": sha256(data).hexdigest()}
    return {"type": "file", "path": name, **told, **fields}


def piece(data: bytes) -> dict[str, str]:
    return {"type": "file_data", "data": b64encode(data).decode()}


def files_of(export: bytes) -> list[bytes]:
    return [one for one in export.splitlines() if json.loads(one)["type"] in ("file", "file_data")]


async def test_export_import_export_is_the_same(house: House) -> None:
    giver, taker = await house.user(), await house.user()
    contents = {"a.txt": b"hello", "empty": b"", "größe/ü.bin": token_bytes(LARGE), "same.txt": b"hello"}
    for path, data in contents.items():
        await put(house, giver, path, data, "application/x-own; a=b")
    await house.take(giver, chatgpt())
    given = await house.give(giver)
    assert max(map(len, given.splitlines())) < 2 * PIECE_BYTES
    assert json.loads(given.splitlines()[-1])["files"] == 4
    outcomes, summary = await house.take(taker, given)
    assert [(one.outcome, one.title) for one in outcomes if one.source_id in contents] == [
        ("imported", p) for p in sorted(contents)
    ]
    assert summary.outcomes["imported"] == 5
    for path, data in contents.items():
        assert await read(house, taker, path) == data
    again = await house.give(taker)
    assert (files_of(again), comparable(again)) == (files_of(given), comparable(given))
    _, summary = await house.take(taker, given)
    assert (summary.outcomes["unchanged"], summary.outcomes.get("imported")) == (5, None)


async def test_what_is_at_a_path_stays(house: House) -> None:
    user = await house.user()
    await put(house, user, "a.txt", b"mine")
    data = token_bytes(LARGE)
    pieces = [piece(data[start : start + 1000]) for start in range(0, LARGE, 1000)]
    outcomes, _ = await house.take(user, lines(head("a.txt", data), *pieces, head("b.txt", b"x"), piece(b"x")))
    assert [(one.outcome, one.title) for one in outcomes] == [("skipped", "a.txt"), ("imported", "b.txt")]
    assert await read(house, user, "a.txt") == b"mine"


BROKEN = {
    "cut off": [head("f", b"12345"), piece(b"123")],
    "too long": [head("f", b"12345"), piece(b"123456")],
    "other bytes": [head("f", b"12345"), piece(b"54321")],
    "no base64": [head("f", b"12345"), {"type": "file_data", "data": "§"}],
    "not a text": [head("f", b"12345"), {"type": "file_data", "data": [1]}],
    "no path": [head("f", b"1", path=None), piece(b"1")],
    "outside": [head("../f", b"1"), piece(b"1")],
    "absolute": [head("/etc/f", b"1"), piece(b"1")],
    "a type with a header in it": [head("f", b"1", content_type="text/plain\r\nSet-Cookie: a"), piece(b"1")],
    "a size below nothing": [head("f", b"1", size=-1), piece(b"1")],
    "a size beyond the quota": [head("f", b"1", size=2**50), piece(b"1")],
    "no hash": [head("f", b"1", sha256="x"), piece(b"1")],
    "no image": [head("f", b"123456789012", content_type="image/png"), piece(b"123456789012")],
}


@pytest.mark.parametrize("items", BROKEN.values(), ids=BROKEN)
async def test_a_broken_file_spoils_itself_alone(house: House, items: list[dict[str, Any]]) -> None:
    user = await house.user()
    good = [head("g", b"good"), piece(b"go"), piece(b"od")]
    outcomes, summary = await house.take(user, lines(*items, *good))
    assert [one.outcome for one in outcomes] == ["failed", "imported"], outcomes
    assert outcomes[0].reason
    assert [row.path for row in await house.rows("SELECT path FROM files")] == ["g"]
    assert await read(house, user, "g") == b"good"
    assert summary.items == 2


async def test_stray_content_is_passed_over(house: House) -> None:
    outcomes, _ = await house.take(await house.user(), lines(piece(b"1"), piece(b"2")))
    assert outcomes == []
