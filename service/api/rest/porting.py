"""A user's data, in and out: export everything, import conversations from elsewhere."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import StreamingResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from service.api.attending import AttendedStream
from service.api.body import StrictRoute
from service.api.deps import PathOwner, Services, allow, services
from service.api.errors import problem, request_id_of, responses
from service.api.rest.schemas.porting import OutcomeOut, ReportLine, SummaryOut
from service.errors import EverturnError, Unprocessable
from service.usecases.exports import Format
from service.usecases.imports import Outcome, Summary

router = APIRouter(
    prefix="/users", tags=["users"], route_class=StrictRoute, responses=responses(400, 401, 403, 404, 422, 503)
)

NDJSON = "application/x-ndjson"
UPLOAD = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}, "example": "[…]"}}
EXAMPLE = ReportLine.model_config["json_schema_extra"]["example"]  # type: ignore[index]
LINE = {"schema": {"type": "object"}, "example": {"type": "export", "version": 1}}
LINES: dict[int | str, dict[str, Any]] = {200: {"description": "One object a line.", "content": {NDJSON: LINE}}}
REPORT: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "One line an item as soon as it is stored, and the summary last.",
        "content": {NDJSON: {"schema": {"$ref": "#/components/schemas/ReportLine"}, "example": EXAMPLE}},
        "model": ReportLine,
    }
}
Use = Annotated[Services, Depends(services)]
Shape = Annotated[
    Format,
    Query(alias="format", description="Our own lines, or a conversation a line in the shape of ChatGPT's export."),
]


@router.get(
    "/{user_id}/export",
    summary="Export everything",
    dependencies=[Depends(allow("read"))],
    responses=LINES,
    response_class=StreamingResponse,
)
async def export_user(owner: PathOwner, use: Use, *, form: Shape = "ndjson") -> Any:
    """All that is the user's: account, keys without secrets, files, conversations, completions, ledger entries.

    What was committed before the export began is in it, once; what is written meanwhile is in it or not. A file without
    its last line, `{"type":"end",…}`, was cut off.
    """
    pieces = await use.exports.open(owner, form)
    name = f"everturn-{owner}-{form}.ndjson"
    return AttendedStream(pieces, NDJSON, {"Content-Disposition": f'attachment; filename="{name}"'})


@router.post(
    "/{user_id}/import",
    summary="Import conversations",
    dependencies=[Depends(allow("write"))],
    responses=REPORT | responses(413, 507),
    response_class=StreamingResponse,
    openapi_extra={"requestBody": {"required": True, "content": UPLOAD}},
)
async def import_talks(request: Request, owner: PathOwner, use: Use) -> Any:
    """The body is the file: ChatGPT's archive or its `conversations.json`, Open WebUI's export, or our own lines.

    Each conversation is stored whole or not at all. What was imported before is met again: only its new messages are
    added, so that the same file, or a newer one, can be sent as often as you like.
    """
    upload = await use.imports.receive(_chunks(request))
    run = use.imports.run(owner, upload, "upload")
    first = await _begin(run)
    return AttendedStream(_report(first, run, request_id_of(request)), NDJSON)


async def _chunks(request: Request) -> AsyncIterator[bytes]:
    try:
        async for chunk in request.stream():
            yield chunk
    except ClientDisconnect:
        raise HTTPException(400, "The connection was closed before the body was complete.") from None


async def _begin(run: AsyncGenerator[Outcome | Summary]) -> list[Outcome | Summary]:
    """The first lines. Raises Unprocessable where there is nothing in the upload but one thing that cannot be read."""
    first = await anext(run)
    if isinstance(first, Summary):
        raise Unprocessable("The upload holds no conversations.", loc=("body",))
    if first.outcome != "failed" or first.source_id is not None:
        return [first]
    second = await anext(run)
    if isinstance(second, Summary):
        raise Unprocessable(f"This cannot be imported. {first.reason}", loc=("body",))
    return [first, second]


async def _report(
    first: list[Outcome | Summary], run: AsyncGenerator[Outcome | Summary], request_id: str | None
) -> AsyncGenerator[bytes]:
    async with aclosing(run):
        for one in first:
            yield _line(one)
        try:
            async for one in run:
                yield _line(one)
        except EverturnError as error:
            yield ReportLine(error=problem(error, request_id)).model_dump_json(exclude_none=True).encode() + b"\n"


def _line(one: Outcome | Summary) -> bytes:
    if isinstance(one, Summary):
        line = ReportLine(summary=SummaryOut.model_validate(one))
    else:
        line = ReportLine(item=OutcomeOut.model_validate(one))
    return line.model_dump_json(exclude_none=True).encode() + b"\n"
