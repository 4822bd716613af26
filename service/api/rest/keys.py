"""A user's keys."""

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from service.api.body import StrictRoute
from service.api.deps import Called, PathOwner, Services, allow, services
from service.api.errors import responses
from service.api.idempotency import PathClaimed
from service.api.paging import PageOf, asked, paged
from service.api.rest.schemas.keys import KeyIn, KeyOut, NewKeyOut, RotateIn
from service.api.rest.schemas.messages import IdPath
from service.domain.paging import Ask
from service.usecases.keys import KeyDraft, NewKey

router = APIRouter(
    prefix="/users/{user_id}/keys",
    tags=["keys"],
    route_class=StrictRoute,
    responses=responses(400, 401, 403, 404, 422, 503),
)

READS = [Depends(allow("read"))]
WRITES = [Depends(allow("write"))]
Use = Annotated[Services, Depends(services)]
BODY = responses(413, 415)


@router.get("", summary="List a user's keys", dependencies=READS)
async def list_keys(
    request: Request, response: Response, ask: Annotated[Ask, Depends(asked())], owner: PathOwner, use: Use
) -> PageOf[KeyOut]:
    """Without their secrets, the newest first, the revoked ones too."""
    return paged(request, response, await use.keys.page(owner, ask))


@router.post("", status_code=201, summary="Create a key", dependencies=WRITES, responses=BODY | responses(409))
async def create_key(
    body: KeyIn, response: Response, caller: Called, owner: PathOwner, claim: PathClaimed, use: Use
) -> NewKeyOut:
    """The secret is in this answer and nowhere else, so an `Idempotency-Key` that comes again is a 409. A key can give
    no more than it has."""
    draft = KeyDraft(body.name, body.kind, tuple(body.scopes), body.expires_at)
    return _shown(response, await use.keys.create(owner, draft, caller, claim=claim))


@router.post(
    "/{key_id}/rotate", status_code=201, summary="Rotate a key", dependencies=WRITES, responses=BODY | responses(409)
)
async def rotate_key(
    key_id: IdPath,
    response: Response,
    caller: Called,
    owner: PathOwner,
    claim: PathClaimed,
    use: Use,
    body: RotateIn | None = None,
) -> NewKeyOut:
    """A new key like this one; this one stays valid for `overlap_seconds`."""
    overlap = (body or RotateIn()).overlap_seconds
    made = await use.keys.rotate(owner, key_id, overlap_seconds=overlap, caller=caller, claim=claim)
    return _shown(response, made)


@router.delete("/{key_id}", status_code=204, summary="Revoke a key", dependencies=WRITES)
async def revoke_key(key_id: IdPath, owner: PathOwner, use: Use) -> None:
    """Everywhere within five seconds."""
    await use.keys.revoke(owner, key_id)


def _shown(response: Response, made: NewKey) -> NewKeyOut:
    response.headers["Location"] = f"/users/{made.key.user_id}/keys"
    response.headers["Cache-Control"] = "no-store"
    return NewKeyOut(**asdict(made.key), key=made.token)
