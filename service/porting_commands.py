"""What the command line does with a user's data: imports it from files, exports it to standard output."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO

from pydantic_core import to_json

from service.blobs.passing import BLOCK
from service.commands import find_user, run_core
from service.domain.porting.archives import WANTED
from service.errors import Unprocessable
from service.main import Core
from service.usecases.exports import Format
from service.usecases.imports import Outcome, Summary

STDIN = Path("-")


def import_files(paths: list[Path], user: str, *, tell: Callable[[str], None]) -> bool:
    """Import files, the conversations in folders, or standard input (`-`); each item's outcome is told as a JSON line.

    Returns whether none failed. Raises NotFound for the user, Unprocessable for a folder without conversations.
    """

    async def work(core: Core) -> bool:
        owner = (await find_user(core, user)).id
        failed = 0
        for path in [file for one in paths for file in _files(one)]:
            upload = await core.imports.receive(_stdin()) if path == STDIN else path.open("rb")
            async with aclosing(core.imports.run(owner, upload, str(path))) as outcomes:
                async for one in outcomes:
                    failed += isinstance(one, Outcome) and one.outcome == "failed"
                    tell(_line(one))
        return not failed

    return run_core(work)


def export_user(user: str, form: Format, out: BinaryIO) -> None:
    """Write a user's export: lines, or in ChatGPT's shape one list as its conversations.json holds. Raises NotFound."""

    async def work(core: Core) -> None:
        pieces = await core.exports.open((await find_user(core, user)).id, form)
        async with aclosing(pieces):
            async for piece in _listed(pieces) if form == "chatgpt" else pieces:
                out.write(piece)
        out.flush()

    run_core(work)


async def _listed(lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Lines that come in pieces, as one JSON list."""
    between, ended = b"[\n", True
    async for piece in lines:
        if ended:
            yield between
            between = b",\n"
        ended = piece.endswith(b"\n")
        yield piece.removesuffix(b"\n")
    yield b"\n]\n" if between == b",\n" else b"[]\n"


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(file for file in path.iterdir() if WANTED.search(file.name) and file.is_file())
    if not found:
        raise Unprocessable(f"The folder {path} holds no conversations.json, conversations-000.json or .ndjson file.")
    return found


async def _stdin() -> AsyncIterator[bytes]:
    while chunk := await asyncio.to_thread(sys.stdin.buffer.read, BLOCK):
        yield chunk


def _line(one: Outcome | Summary) -> str:
    fields = asdict(one)
    return to_json({"summary": fields} if isinstance(one, Summary) else {"item": fields}).decode()
