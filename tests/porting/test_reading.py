"""Uploads: single files, archives old and new, and what is wrong with them."""

import io
import json
import struct
from zipfile import ZIP_STORED, ZipFile

import pytest

from service.domain.porting.carried import FileData
from service.domain.porting.reading import Item, Told, read_upload
from tests.porting import samples
from tests.porting.samples import archive, file_of

MOST = 10_000_000
ARCHIVE = archive({"conversations.json": file_of(samples.chatgpt())})


def items(data: bytes, most: int = MOST) -> list[Told]:
    return [one for one in read_upload(io.BytesIO(data), "upload", most) if not isinstance(one, FileData)]


def told(data: bytes, most: int = MOST) -> list[str]:
    """What became of each item: its name, or its problem's first words."""
    return [
        one.talk.source_id
        if isinstance(one, Item) and one.talk and not one.problem
        else getattr(one, "problem", "lines")
        for one in items(data, most)
    ]


def test_every_shape_is_known_by_itself() -> None:
    single = json.dumps(samples.chatgpt("c-9")).encode()
    assert told(file_of(samples.chatgpt(), samples.openwebui())) == ["c-1", "w-1"]
    assert told(single) == ["c-9"]
    assert told(single + b"\n" + json.dumps(samples.openwebui()).encode()) == ["c-9", "w-1"]


def test_archives_old_and_new_are_read_in_order() -> None:
    single = archive({"conversations.json": file_of(samples.chatgpt()), "user.json": b"{}", "chat.html": b"<p>"})
    assert told(single) == ["c-1"]
    files = {f"conversations-{n:03}.json": file_of(samples.chatgpt(f"c-{n}")) for n in (2, 0, 1)}
    assert told(archive({**files, "shared_conversations.json": file_of({"id": "s"})})) == ["c-0", "c-1", "c-2"]
    folder = archive({"export/2026/conversations.json": file_of(samples.chatgpt())})
    assert [one.file for one in items(folder)] == ["export/2026/conversations.json"]


def test_one_that_is_broken_does_not_stop_the_others() -> None:
    data = b'[%s, {"mapping": 1}, [1], {"a": 1,}, %s]' % tuple(
        json.dumps(samples.chatgpt(name)).encode() for name in ("c-1", "c-2")
    )
    first, odd, listed, broken, last = told(data)
    assert (first, last) == ("c-1", "c-2")
    assert "no shape that is known" in odd
    assert "a list" in listed
    assert "not valid JSON" in broken


def test_bytes_that_are_not_utf8_and_nesting_without_end_spoil_one_item() -> None:
    data = b'[{"id":"a","mapping":{"m":{"message":{"author":{"role":"user"},"content":{"parts":["\xff"]}}}}},'
    deep = b'{"x":' * 100_000 + b"1" + b"}" * 100_000
    found = items(data + deep + b"," + json.dumps(samples.chatgpt()).encode() + b"]")
    assert isinstance(found[0], Item)
    assert found[0].talk
    assert found[0].talk.nodes[0].content == "\ufffd"
    assert isinstance(found[1], Item)
    assert found[1].problem == "It is nested too deeply."
    assert len(found) == 3


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PK\x03\x04",
        b"PK\x03\x04" + b"x" * 100,
        archive({"readme.json": b"[]"}),
        ARCHIVE[:-30],
        b"<html>conversations</html>",
        b"\x1f\x8b\x08\x00",
    ],
)
def test_what_is_no_export_says_so(data: bytes) -> None:
    found = told(data)
    assert len(found) == (1 if data else 0)
    assert all(" " in one for one in found)


def test_an_archive_that_unpacks_to_too_much_is_stopped() -> None:
    packed = b"[" + b" " * 5_000_000 + b"]"
    bomb = archive({"conversations-000.json": file_of(samples.chatgpt()), "conversations-001.json": packed})
    assert len(bomb) < 10_000
    assert told(bomb, 1_000_000) == ["c-1", "The archive unpacks to more than 1,000,000 bytes."]


def test_names_in_an_archive_are_never_paths() -> None:
    packed = io.BytesIO()
    with ZipFile(packed, "w", ZIP_STORED) as made:
        for name in ("../../conversations.json", "/etc/conversations-000.json", "conversations.json/x", "x.ndjson/"):
            made.writestr(name, file_of(samples.chatgpt()) if not name.endswith("/") else b"")
    assert [one.file for one in items(packed.getvalue())] == ["../../conversations.json", "/etc/conversations-000.json"]


def test_an_encrypted_archive_and_a_damaged_one_say_so() -> None:
    plain = bytearray(ARCHIVE)
    locked = bytearray(plain)
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = locked.index(mark) + at
        locked[place : place + 2] = struct.pack("<H", 1)
    assert told(bytes(locked)) == ["The archive is encrypted."]
    plain[60:70] = bytes(10)
    assert told(bytes(plain))[-1] == "The archive is damaged, or packed in a way that is not known here."


def test_our_own_lines_end_with_an_end() -> None:
    talk = {"type": "conversation", "source": "everturn", "id": "1@x"}
    message = {"type": "message", "id": "m", "parent": None, "role": "user", "content": "Hello"}
    lines = [{"type": "export"}, {"type": "user"}, talk, message, {"type": "end"}]
    whole = "\n".join(json.dumps(one) for one in lines).encode()
    assert told(whole) == ["1@x", "lines"]
    assert told(whole[:-20]) == ["The file ends here without its end line: the rest is missing.", "lines"]
    assert told(whole.replace(b'"Hello"', b"Hello"))[0].startswith("One of its lines is broken.")
    assert told(json.dumps(message).encode()) == ["A message's line stands without its conversation's."]
