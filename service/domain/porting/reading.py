"""From an upload to conversations, one at a time, and what stands in the way of the others."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from service.domain.porting import carried, chatgpt, everturn, openwebui
from service.domain.porting.archives import BrokenArchiveError, open_files
from service.domain.porting.carried import FileData, FileHead
from service.domain.porting.pieces import NotJsonError, Piece, Reads, split
from service.domain.porting.talks import Talk, UnreadableError

MOST_BYTES = 64 << 20
SHAPES = (chatgpt, openwebui)


@dataclass(frozen=True, slots=True)
class Item:
    """What an upload holds in one place: a conversation, or the `problem` for which there is none."""

    file: str
    talk: Talk | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Lines:
    """Lines of our own shape that are not restored, by type."""

    file: str
    skipped: dict[str, int]


Told = Item | Lines | FileHead
Found = Told | FileData


def read_upload(upload: BinaryIO, name: str, most: int) -> Iterator[Found]:
    """The items of a file or an archive. One that is broken spoils itself, or all that follow it in its file.

    At most `most` bytes are unpacked, and at most MOST_BYTES held at once.
    """
    try:
        for file, stream in open_files(upload, name, most):
            yield from _read_file(file, stream)
    except BrokenArchiveError as error:
        yield Item(name, problem=str(error))


def _read_file(file: str, stream: Reads) -> Iterator[Found]:
    lines = everturn.Gatherer(MOST_BYTES)
    ended = False
    try:
        for piece in split(stream, MOST_BYTES):
            value = _parse(piece)
            if isinstance(value, dict) and everturn.recognise(value):
                ended = value["type"] == "end"
                if value["type"] in carried.KINDS:
                    yield from _items(file, lines.finish())
                    yield _carried(file, value)
                    continue
                found = lines.add(value, len(piece.text))
                yield from _items(file, found)
            elif isinstance(value, UnreadableError):
                if not lines.spoil(value):
                    yield Item(file, problem=str(value))
            else:
                yield from _items(file, lines.finish())
                yield from _items(file, _read(value))
    except NotJsonError as error:
        yield Item(file, problem=f"{error} What follows it in this file is not read.")
    yield from _items(file, lines.finish(cut=not ended))
    if lines.skipped:
        yield Lines(file, lines.skipped)


def _carried(file: str, value: Any) -> FileHead | FileData | Item:
    try:
        return carried.read_line(file, value)
    except UnreadableError as error:
        return Item(file, problem=str(error))


def _parse(piece: Piece) -> Any:
    if piece.problem:
        return UnreadableError(piece.problem)
    try:
        return json.loads(piece.text.decode("utf-8", "replace"))
    except RecursionError:
        return UnreadableError("It is nested too deeply.")
    except ValueError:
        return UnreadableError("It is not valid JSON.")


def _read(value: Any) -> Talk | UnreadableError:
    if not isinstance(value, dict):
        return UnreadableError("It is a list, not a conversation.")
    shape = next((one for one in SHAPES if one.recognise(value)), None)
    if shape is None:
        return UnreadableError("It is a conversation of no shape that is known: ChatGPT's, Open WebUI's or Everturn's.")
    try:
        talk: Talk = shape.read(value)
    except UnreadableError as error:
        return error
    return talk


def _items(file: str, found: Talk | UnreadableError | None) -> Iterator[Item]:
    if isinstance(found, Talk):
        yield Item(file, found)
    elif isinstance(found, everturn.BrokenTalkError):
        yield Item(file, found.talk, str(found))
    elif found is not None:
        yield Item(file, problem=str(found))
