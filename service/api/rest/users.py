"""Users: their accounts, made and governed by admins, changed and erased also by themselves."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from service.api.body import StrictRoute
from service.api.deps import PathOwner, Services, admin_only, allow, services
from service.api.errors import responses
from service.api.idempotency import CallerClaimed, mark
from service.api.paging import PageOf, asked, paged
from service.api.rest.schemas.conversations import Tag
from service.api.rest.schemas.users import ReceiptOut, UserIn, UserOut, UserPatch, UserPut
from service.domain.paging import Ask
from service.usecases.users import UserDraft

router = APIRouter(
    prefix="/users", tags=["users"], route_class=StrictRoute, responses=responses(400, 401, 403, 404, 422, 503)
)

ADMIN = [Depends(admin_only)]
READS = [Depends(allow("read"))]
WRITES = [Depends(allow("write"))]
Use = Annotated[Services, Depends(services)]
Tags = Annotated[list[Tag] | None, Query(max_length=32, description="Users having all of these.")]
Part = Annotated[str | None, Query(max_length=254, description="Part of the username or the email.")]


@router.get("", summary="List users", dependencies=ADMIN)
async def list_users(
    request: Request,
    response: Response,
    ask: Annotated[Ask, Depends(asked())],
    use: Use,
    tags: Tags = None,
    q: Part = None,
) -> PageOf[UserOut]:
    """The newest first. For admin keys."""
    return paged(request, response, await use.users.page(ask, tags=tags or (), q=q))


@router.post("", status_code=201, summary="Create a user", dependencies=ADMIN, responses=responses(409, 413, 415))
async def create_user(body: UserIn, response: Response, claim: CallerClaimed, use: Use) -> UserOut:
    """For admin keys. Names and addresses are unique, whatever their case, and external ids; 409 says what is taken."""
    fields = body.model_dump(exclude={"tags", "settings"})
    settings = body.settings.model_dump(exclude_unset=True)
    done = await use.users.create_once(UserDraft(**fields, tags=tuple(body.tags), settings=settings), claim)
    mark(response, replayed=done.replayed)
    response.headers["Location"] = f"/users/{done.made.id}"
    return UserOut.model_validate(done.made)


@router.get("/{user_id}", summary="Get a user", dependencies=READS)
async def get_user(owner: PathOwner, use: Use) -> UserOut:
    """Oneself as `me`, or whom the key acts for."""
    return UserOut.model_validate(await use.users.get(owner))


@router.put(
    "/{user_id}",
    summary="Change a user's account and settings",
    dependencies=WRITES,
    responses=responses(409, 413, 415),
)
async def put_user(body: UserPut, owner: PathOwner, use: Use) -> UserOut:
    """What is left out stays as it is."""
    account = body.user.model_dump(exclude_unset=True)
    settings = body.settings.model_dump(exclude_unset=True)
    return UserOut.model_validate(await use.users.edit(owner, account, settings))


@router.patch("/{user_id}", summary="Govern a user", dependencies=ADMIN, responses=responses(409, 413, 415))
async def patch_user(body: UserPatch, owner: PathOwner, use: Use) -> UserOut:
    """Role, tags, disabled, budgets, limits. For admin keys. The last admin stays one."""
    changed = await use.users.govern(
        owner, role=body.role, disabled=body.disabled, tags=body.tags, limits=body.allowance()
    )
    use.keys.forget()
    use.engine.limits.forget()
    return UserOut.model_validate(changed)


@router.delete("/{user_id}", summary="Erase a user", dependencies=WRITES, responses=responses(409))
async def erase_user(owner: PathOwner, use: Use) -> ReceiptOut:
    """With keys, conversations, messages and completions. The ledger stays, with the user's number and no name."""
    receipt = await use.erasures.erase(owner)
    use.keys.forget()
    return ReceiptOut.model_validate(receipt)
