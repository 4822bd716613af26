"""Budgets and limits of all together, of a user and of a key: read by whom they bind, set by admins."""

from typing import Annotated

from fastapi import APIRouter, Depends

from service.api.body import StrictRoute
from service.api.deps import PathOwner, Services, admin_only, allow, services
from service.api.errors import responses
from service.api.rest.schemas.limits import AllowanceIn, AllowanceOut, shown
from service.api.rest.schemas.messages import IdPath
from service.usecases.limits import Subject

router = APIRouter(tags=["limits"], route_class=StrictRoute, responses=responses(400, 401, 403, 404, 422, 503))

ADMIN = [Depends(admin_only)]
READS = [Depends(allow("read"))]
BODY = responses(413, 415)
Use = Annotated[Services, Depends(services)]
ALL = Subject("all")


async def user(owner: PathOwner) -> Subject:
    return Subject("user", owner)


async def key(owner: PathOwner, key_id: IdPath) -> Subject:
    return Subject("key", key_id, owner)


OfUser = Annotated[Subject, Depends(user)]
OfKey = Annotated[Subject, Depends(key)]


@router.get("/limits", summary="Get everybody's limits", dependencies=ADMIN)
async def get_limits(use: Use) -> AllowanceOut:
    """What all turns together may use, and what is used of it now. For admin keys."""
    return shown(await use.limits.get(ALL))


@router.patch("/limits", summary="Set everybody's limits", dependencies=ADMIN, responses=BODY)
async def patch_limits(body: AllowanceIn, use: Use) -> AllowanceOut:
    """What is left out stays, null takes a limit away. For admin keys. It holds on all workers within 3 seconds."""
    return shown(await use.limits.edit(ALL, body.allowance()))


@router.delete("/limits", status_code=204, summary="Remove everybody's limits", dependencies=ADMIN)
async def delete_limits(use: Use) -> None:
    """Those of users and keys stay. For admin keys."""
    await use.limits.delete(ALL)


@router.get("/users/{user_id}/limits", summary="Get a user's limits", dependencies=READS)
async def get_user_limits(subject: OfUser, use: Use) -> AllowanceOut:
    """What the user's turns together may use, whatever the key, and what is used of it now."""
    return shown(await use.limits.get(subject))


@router.patch("/users/{user_id}/limits", summary="Set a user's limits", dependencies=ADMIN, responses=BODY)
async def patch_user_limits(body: AllowanceIn, subject: OfUser, use: Use) -> AllowanceOut:
    """As `PATCH /users/{user_id}` sets them. For admin keys."""
    return shown(await use.limits.edit(subject, body.allowance()))


@router.delete("/users/{user_id}/limits", status_code=204, summary="Remove a user's limits", dependencies=ADMIN)
async def delete_user_limits(subject: OfUser, use: Use) -> None:
    """Those of the user's keys stay. For admin keys."""
    await use.limits.delete(subject)


@router.get("/users/{user_id}/keys/{key_id}/limits", summary="Get a key's limits", dependencies=READS)
async def get_key_limits(subject: OfKey, use: Use) -> AllowanceOut:
    """What turns begun with this key may use, whomever it acts for, and what is used of it now."""
    return shown(await use.limits.get(subject))


@router.patch("/users/{user_id}/keys/{key_id}/limits", summary="Set a key's limits", dependencies=ADMIN, responses=BODY)
async def patch_key_limits(body: AllowanceIn, subject: OfKey, use: Use) -> AllowanceOut:
    """A key that is rotated hands them on to its heir. For admin keys."""
    return shown(await use.limits.edit(subject, body.allowance()))


@router.delete(
    "/users/{user_id}/keys/{key_id}/limits", status_code=204, summary="Remove a key's limits", dependencies=ADMIN
)
async def delete_key_limits(subject: OfKey, use: Use) -> None:
    """For admin keys."""
    await use.limits.delete(subject)
