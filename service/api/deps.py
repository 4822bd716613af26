"""What routes depend on: the use cases, who is calling, what they may, and whose data it is."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from inspect import signature
from typing import Annotated, Any, Literal, TypeVar

from fastapi import Depends, Header, Path, Request
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase
from pydantic import Discriminator, Field, Tag

from service.db.engine import Database
from service.domain.callers import Caller
from service.errors import BadRequest, Forbidden, NotFound, Unauthenticated
from service.providers.registry import Registry
from service.turns.claims import Claims
from service.turns.engine import Engine
from service.turns.hub import Hub
from service.usecases.catalog import Catalog
from service.usecases.comparisons import Comparisons
from service.usecases.completions import Completions
from service.usecases.conversations import Conversations
from service.usecases.erasures import Erasures
from service.usecases.exports import Exports
from service.usecases.files import Files
from service.usecases.imports import Imports
from service.usecases.keys import Keys
from service.usecases.limits import Limits
from service.usecases.messages import Messages
from service.usecases.models import Models
from service.usecases.search import Search
from service.usecases.turns import Turns
from service.usecases.usage import Usage
from service.usecases.users import Users

Made = TypeVar("Made")
LARGEST = 2**53 - 1
EXTERNAL = "ext:"


@dataclass(frozen=True, slots=True)
class Services:
    """The use cases of one worker, at `app.state.services` once it has started."""

    users: Users
    erasures: Erasures
    keys: Keys
    limits: Limits
    imports: Imports
    exports: Exports
    conversations: Conversations
    messages: Messages
    completions: Completions
    turns: Turns
    comparisons: Comparisons
    claims: Claims
    catalog: Catalog
    files: Files
    models: Models
    registry: Registry
    search: Search
    usage: Usage
    engine: Engine
    hub: Hub
    database: Database
    metrics: Literal["open", "admin", "off"] = "open"


async def services(request: Request) -> Services:
    return services_of(request)


def services_of(request: Request) -> Services:
    found: Services = request.app.state.services
    return found


class _KeyScheme(SecurityBase):
    """Reads the key from whichever header has it, and tells who holds it. Raises Unauthenticated."""

    model = HTTPBearer(description="`Authorization: Bearer evt_…`; the header `x-api-key: evt_…` does as well.")
    scheme_name = "key"

    async def __call__(self, request: Request) -> Caller:
        return await services_of(request).keys.authenticate(_token(request))


authenticated = _KeyScheme()
Called = Annotated[Caller, Depends(authenticated)]


@dataclass(frozen=True)
class Policy:
    """Who may use a route. Every route depends on exactly one; a test reads `name` off it."""

    name: Literal["read", "write", "complete"]

    async def __call__(self, caller: Called) -> Caller:
        if self.name not in caller.scopes:
            raise Forbidden(f"Your key has not the scope {self.name}.")
        return caller


@dataclass(frozen=True)
class AdminPolicy:
    """Admin keys only; changing something takes the scope write as well."""

    name: Literal["admin"] = "admin"

    async def __call__(self, request: Request, caller: Called) -> Caller:
        if caller.kind != "admin":
            raise Forbidden("Only an admin key may do this.")
        needed = "read" if request.method in ("GET", "HEAD") else "write"
        if needed not in caller.scopes:
            raise Forbidden(f"Your key has not the scope {needed}.")
        return caller


@dataclass(frozen=True)
class PublicPolicy:
    """Anybody, without a key."""

    name: Literal["public"] = "public"

    async def __call__(self) -> None:
        return None


@dataclass(frozen=True)
class MetricsPolicy:
    """As the setting `metrics` says: anybody, admin keys only, or nobody."""

    name: Literal["metrics"] = "metrics"

    async def __call__(self, request: Request) -> None:
        match services_of(request).metrics:
            case "off":
                raise NotFound("The metrics are switched off.")
            case "admin":
                await admin_only(request, await authenticated(request))


public = PublicPolicy()
metrics_policy = MetricsPolicy()
admin_only = AdminPolicy()


def queried(kind: type[Made]) -> Callable[..., Awaitable[Made]]:
    """A dependency that makes a dataclass of what is in the query. FastAPI would call a class in another thread."""

    async def make(**found: Any) -> Made:
        return kind(**found)

    make.__signature__ = signature(kind)  # type: ignore[attr-defined]  # functions have it
    return make


def allow(name: Literal["read", "write", "complete"]) -> Policy:
    """The policy of a route for every kind of key that has this scope."""
    return Policy(name)


ForUser = Annotated[
    str | None,
    Header(
        alias="Everturn-User",
        max_length=1000,
        description="For service and admin keys: whom to act for, `<id>` or `ext:<external id>`.",
    ),
]


async def owner(request: Request, caller: Called, everturn_user: ForUser = None) -> int:
    """Whose data a route without a user in its path works on. Raises BadRequest, Forbidden, NotFound."""
    if everturn_user is None:
        if caller.kind == "service":
            raise BadRequest("A service key must say for whom: send `Everturn-User: <id>` or `ext:<external id>`.")
        return caller.user_id
    named = _named(everturn_user)
    if caller.kind == "user":
        if named != caller.user_id:
            raise Forbidden("A user key acts for its owner only.")
        return caller.user_id
    return await services_of(request).users.act_for(caller, named)


UserPath = Annotated[
    # The tag is no more than that: a mistake is told as one in the number.
    Annotated[Annotated[int, Field(ge=1, le=LARGEST)], Tag("number")] | Annotated[Literal["me"], Tag("me")],
    Discriminator(lambda value: "me" if value == "me" else "number"),
    Path(description="A user's number, or `me`.", openapi_examples={"me": {"value": "me"}}),
]


async def path_owner(request: Request, caller: Called, user_id: UserPath, everturn_user: ForUser = None) -> int:
    """Whose data a route below `/users/{user_id}` works on. Raises NotFound for whom is not the caller's."""
    if user_id == "me":
        return await owner(request, caller, everturn_user)
    if caller.kind == "user":
        if user_id != caller.user_id:
            raise NotFound(f"There is no user {user_id}.")
        return user_id
    if caller.kind == "admin" and user_id == caller.user_id:
        return user_id
    try:
        return await services_of(request).users.act_for(caller, user_id)
    except Forbidden as error:
        raise NotFound(f"There is no user {user_id}.") from error


Owner = Annotated[int, Depends(owner)]
PathOwner = Annotated[int, Depends(path_owner)]


def _token(request: Request) -> str:
    bearer = request.headers.get("authorization")
    if bearer is None:
        key = request.headers.get("x-api-key")
        if key is None:
            raise Unauthenticated("Send a key: `Authorization: Bearer evt_…` or `x-api-key: evt_…`.")
        return key.strip()
    scheme, _, token = bearer.partition(" ")
    if scheme.lower() != "bearer":
        raise Unauthenticated("The header Authorization must read `Bearer evt_…`.")
    return token.strip()


def _named(text: str) -> int | str:
    """The user that a header names: a number, or an external id, which is UTF-8."""
    text = text.strip()
    if text.startswith(EXTERNAL):
        try:
            external = text.removeprefix(EXTERNAL).encode("latin-1").decode()
        except UnicodeError:
            raise BadRequest("The external id in Everturn-User is not UTF-8.") from None
        if 1 <= len(external) <= 200 and external.isprintable() and external == external.strip():
            return external
    elif text.isascii() and text.isdigit() and 1 <= int(text) <= LARGEST:
        return int(text)
    raise BadRequest("Everturn-User must be a user's number or `ext:` and an external id of at most 200 characters.")
