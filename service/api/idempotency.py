"""The header Idempotency-Key: which request this is, so that it is carried out once."""

from typing import Annotated

from fastapi import Depends, Header, Request, Response

from service.api.deps import Called, Owner, PathOwner
from service.api.errors import REPLAYED
from service.domain.claims import Claim, fingerprint, parse_key
from service.errors import BadRequest

Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        json_schema_extra={"maxLength": 257},
        description="A name of your own for this request. Sent again under it, the request is not carried out again: "
        "it gets the same answer, or follows the turn that runs. Kept for 48 hours.",
    ),
]


async def claim_of(request: Request, user_id: int, key: str | None) -> Claim | None:
    """What a request claims that came with a key; `user_id` is the one whose key it is. Raises BadRequest."""
    if key is None:
        return None
    try:
        name = parse_key(key)
    except ValueError:
        raise BadRequest("An Idempotency-Key is 1 to 255 printable ASCII characters, bare or quoted.") from None
    body = await request.json() if await request.body() else None
    query = f"?{request.url.query}" if request.url.query else ""
    return Claim(user_id, name, fingerprint(request.method, request.url.path + query, body=body))


async def claim(request: Request, owner: Owner, key: Key = None) -> Claim | None:
    return await claim_of(request, owner, key)


async def claim_below_user(request: Request, owner: PathOwner, key: Key = None) -> Claim | None:
    return await claim_of(request, owner, key)


async def claim_of_caller(request: Request, caller: Called, key: Key = None) -> Claim | None:
    return await claim_of(request, caller.user_id, key)


Claimed = Annotated[Claim | None, Depends(claim)]
PathClaimed = Annotated[Claim | None, Depends(claim_below_user)]
CallerClaimed = Annotated[Claim | None, Depends(claim_of_caller)]


def mark(response: Response, *, replayed: bool) -> None:
    """Tell that an answer is an earlier one."""
    if replayed:
        response.headers[REPLAYED] = "true"
