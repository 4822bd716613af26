"""Tables as CSV files: safe for spreadsheets, and complete or not there at all."""

import csv
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import ExitStack, aclosing
from datetime import datetime
from io import StringIO
from tempfile import SpooledTemporaryFile
from typing import Any

from starlette.responses import StreamingResponse

from service.errors import as_full

IN_MEMORY = 1_000_000
CHUNK = 64 * 1024
# A spreadsheet takes a cell that begins so for a formula (OWASP, CSV injection), some also with full-width signs.
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


async def attach(
    lines: AsyncGenerator[Sequence[Mapping[str, Any]]], columns: Sequence[str], *, filename: str
) -> StreamingResponse:
    """A CSV attachment with these columns.

    It is written into a temporary file first: a failure on the way is an error answer and not half a table, its
    length is known, and no database connection waits for a slow reader. Memory does not grow with it.
    Raises StorageFull where the disk has no room for it.
    """
    with as_full("There is no room on the service's disk for this report."), ExitStack() as stack:
        file = stack.enter_context(SpooledTemporaryFile(IN_MEMORY))
        file.write(_rows([columns]))
        async with aclosing(lines):
            async for batch in lines:
                file.write(_rows([[_cell(line[name]) for name in columns] for line in batch]))
        size = file.tell()
        file.seek(0)  # which writes what is buffered
        stack.pop_all()  # closed by who reads it
    headers = {"Content-Disposition": f'attachment; filename="{filename}"', "Content-Length": str(size)}
    return StreamingResponse(_chunks(file), headers=headers, media_type="text/csv; charset=utf-8")


def _chunks(file: Any) -> Iterator[bytes]:
    with file:
        while chunk := file.read(CHUNK):
            yield chunk


def _rows(rows: Sequence[Sequence[str]]) -> bytes:
    text = StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, str) and value.startswith(FORMULA):
        return f"'{value}"
    return str(value)
