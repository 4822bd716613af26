"""Files: a user's attachments, written and read as they are."""

from typing import Annotated, Any
from urllib.parse import quote as quote_path

from fastapi import APIRouter, Depends, Path, Query, Request, Response

from service.api.body import StrictRoute
from service.api.deps import Owner, Services, allow, services
from service.api.downloads import BINARY, CONTENT, send_content
from service.api.errors import responses
from service.api.paging import PageOf, asked, paged
from service.api.rest.schemas.files import FileOut
from service.api.uploads import conditions_of, digest_of, length_of, media_type_of, read_upload
from service.domain.etags import quote
from service.domain.paging import Ask
from service.domain.paths import MOST_BYTES, clean_path, normal
from service.errors import Unprocessable
from service.usecases.files import FileDraft

router = APIRouter(tags=["files"], route_class=StrictRoute, responses=responses(400, 401, 403, 404, 422, 503))

READS = [Depends(allow("read"))]
WRITES = [Depends(allow("write"))]
Use = Annotated[Services, Depends(services)]
CREATED: dict[int | str, dict[str, Any]] = {201: {"description": "The path is new.", "model": FileOut}}


async def named(
    path: Annotated[
        str,
        Path(
            min_length=1,
            max_length=MOST_BYTES,
            description="Slashes are part of the name; neither `..` nor an absolute path is taken.",
            openapi_examples={"image": {"value": "holidays/beach.jpg"}},
        ),
    ],
) -> str:
    try:
        return clean_path(path)
    except ValueError as error:
        raise Unprocessable(str(error), loc=("path", "path")) from None


Named = Annotated[str, Depends(named)]


@router.get("/files", summary="List files", dependencies=READS)
async def list_files(
    request: Request,
    response: Response,
    ask: Annotated[Ask, Depends(asked())],
    owner: Owner,
    use: Use,
    *,
    prefix: Annotated[str, Query(max_length=MOST_BYTES, description="How the path begins.")] = "",
) -> PageOf[FileOut]:
    """By path, without their content."""
    return paged(request, response, await use.files.page(owner, normal(prefix), ask))


@router.put(
    "/files/{path:path}",
    summary="Write a file",
    dependencies=WRITES,
    responses=CREATED | responses(408, 412, 413, 415, 507),
    openapi_extra={"requestBody": {"required": True, "content": BINARY}},
)
async def put_file(request: Request, response: Response, path: Named, owner: Owner, use: Use) -> FileOut:
    """The body is the file, all of it or nothing is kept. `If-None-Match: *` does not overwrite, `If-Match: "…"`
    overwrites only what the client knows, and a `Content-Digest` with SHA-256 is checked."""
    draft = FileDraft(path, media_type_of(request), length_of(request), conditions_of(request), digest_of(request))
    written = await use.files.put(owner, draft, read_upload(request))
    response.status_code = 201 if written.created else 200
    response.headers["ETag"] = quote(written.file.sha256)
    if written.created:
        response.headers["Location"] = f"/files/{quote_path(path)}"
    return FileOut.model_validate(written.file)


@router.get(
    "/files/{path:path}",
    summary="Read a file",
    dependencies=READS,
    response_class=Response,
    responses=CONTENT | responses(412, 416),
)
async def get_file(request: Request, path: Named, owner: Owner, use: Use) -> Response:
    """The content, or the ranges of it that `Range` asks for. What a browser could run is sent for saving only."""
    return send_content(request, *await use.files.open(owner, path))


@router.delete(
    "/files/{path:path}", status_code=204, summary="Delete a file", dependencies=WRITES, responses=responses(412)
)
async def delete_file(request: Request, path: Named, owner: Owner, use: Use) -> None:
    """Its content goes with the last path and the last message that refer to it."""
    await use.files.delete(owner, path, conditions_of(request))
