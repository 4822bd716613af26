"""What the command line does on the database and the server."""

import asyncio
import gc
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import uvicorn
from pydantic import ValidationError
from sqlalchemy.exc import ArgumentError

from service import logs
from service.adapters import shared_local_model
from service.api.rest.schemas.users import UserIn
from service.config import Settings
from service.db import migrate as schema
from service.db.engine import async_url
from service.db.migrate import verify_schema
from service.domain.callers import SCOPES, KeyKind, Scope
from service.domain.paging import Ask
from service.errors import Conflict, DatabaseUnavailable, Duplicate, NotFound, Unprocessable
from service.main import Core, build_core, create_app, database_url
from service.supervisor import Supervisor
from service.usecases.keys import DEFAULT_SCOPES, Key, KeyDraft, NewKey
from service.usecases.users import Role, User, UserDraft

Answer = TypeVar("Answer")
GRACE_SECONDS = 5
APPLICATION = "service.main:app"

# Everything is imported; cli.py put off looking through it, and now it is never done.
gc.freeze()
gc.enable()


@dataclass(frozen=True, slots=True)
class KeyWish:
    """A key as the command line asks for it."""

    user: str
    kind: KeyKind
    name: str
    scopes: str
    days: int | None


def load_settings() -> Settings:
    """The settings. Raises Unprocessable, which names each variable that is wrong."""
    try:
        settings = Settings()
        async_url(database_url(settings))
    except ValidationError as error:
        raise Unprocessable(f"The environment holds wrong settings. {_sentence(error)}") from None
    except (ValueError, ArgumentError) as error:
        raise Unprocessable(f"EVERTURN_DATABASE_URL is wrong: {error}") from None
    return settings


def serve(
    *,
    host: str | None,
    port: int | None,
    workers: int | None,
    migrate_first: bool,
    announce: Callable[[str], None],
) -> None:
    """Serve until a signal. An embedded database is brought up to date first, and gets its first admin, whose key is
    announced."""
    settings = load_settings()
    logs.configure(settings.log_level, settings.log_format)
    host, port, workers = host or settings.host, settings.port if port is None else port, workers or settings.workers
    if migrate_first or _embedded(settings):
        schema.upgrade(database_url(settings))
        first = asyncio.run(_with_core(settings, _first_admin))
        if first is not None:
            announce(_welcome(first, host, port))
    # After its own clean end uvicorn raises the signal anew, which would otherwise end the process as killed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    asyncio.run(_check_schema(settings))
    with TemporaryDirectory(prefix="everturn-") as folder, shared_local_model(settings, workers):
        options: dict[str, Any] = {
            "host": host,
            "port": port,
            "workers": workers,
            "access_log": False,
            "log_config": None,
            "server_header": False,
            "timeout_graceful_shutdown": settings.drain_seconds + GRACE_SECONDS,
        }
        if workers > 1:
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
            config = uvicorn.Config(APPLICATION, **options)
            Supervisor(config, [config.bind_socket()]).run()
        else:
            uvicorn.run(APPLICATION, **options)


async def _check_schema(settings: Settings) -> None:
    """Say what to do before the server starts, in a sentence. A database that is away may come while serving."""
    core = build_core(settings)
    try:
        await verify_schema(core.database)
    except DatabaseUnavailable:
        return
    finally:
        await core.close()


def migrate() -> str:
    """Bring the database to this version's schema; returns where it is now."""
    schema.upgrade(database_url(load_settings()))
    return schema.SCHEMA


def create_user(username: str, role: Role, *, email: str | None, external_id: str | None) -> User:
    """Raises Unprocessable as the API does, Duplicate."""
    try:
        valid = UserIn(username=username, role=role, email=email, external_id=external_id)
    except ValidationError as error:
        raise Unprocessable(_sentence(error)) from None

    async def work(core: Core) -> User:
        return await core.users.create(UserDraft(valid.username, valid.email, valid.role, valid.external_id))

    return run_core(work)


def list_users(limit: int) -> list[User]:
    """The newest users."""

    async def work(core: Core) -> list[User]:
        return (await core.users.page(Ask(0, limit))).items

    return run_core(work)


def create_key(wish: KeyWish) -> NewKey:
    """Raises NotFound for the user, named or numbered."""

    async def work(core: Core) -> NewKey:
        expires = None if wish.days is None else datetime.now(UTC) + timedelta(days=wish.days)
        draft = KeyDraft(wish.name, wish.kind, _scopes(wish), expires)
        return await core.keys.create((await find_user(core, wish.user)).id, draft, None)

    return run_core(work)


def list_keys(user: str, limit: int) -> list[Key]:
    """The newest keys of a user."""

    async def work(core: Core) -> list[Key]:
        return (await core.keys.page((await find_user(core, user)).id, Ask(0, limit))).items

    return run_core(work)


def revoke_key(key_id: int) -> None:
    async def work(core: Core) -> None:
        await core.keys.revoke_any(key_id)

    run_core(work)


def openapi() -> str:
    """The API's description, for which neither a database nor a key is needed."""
    return json.dumps(create_app(load_settings()).openapi(), indent=2)


def run_core(work: Callable[[Core], Awaitable[Answer]]) -> Answer:
    settings = load_settings()
    if _embedded(settings):
        schema.upgrade(database_url(settings))
    return asyncio.run(_with_core(settings, work))


async def _with_core(settings: Settings, work: Callable[[Core], Awaitable[Answer]]) -> Answer:
    # A whole ledger is proved, or rebuilt, by statements that take minutes.
    core = build_core(settings, statement_seconds=None)
    try:
        await verify_schema(core.database)
        return await work(core)
    finally:
        await core.close()


def _scopes(wish: KeyWish) -> tuple[Scope, ...]:
    names = {name.strip() for name in wish.scopes.split(",") if name.strip()}
    if unknown := names.difference(SCOPES):
        raise Unprocessable(f"There is no scope {', '.join(sorted(unknown))}; there are {', '.join(SCOPES)}.")
    chosen = tuple(scope for scope in SCOPES if scope in names)
    return chosen or (SCOPES if wish.kind == "admin" else DEFAULT_SCOPES)


async def find_user(core: Core, user: str) -> User:
    """A user by number or by name. Raises NotFound, Conflict where one user's number is another's name."""
    named = await core.users.find_named(user)
    numbered = None
    if user.isascii() and user.isdigit() and len(user) < 16:
        with suppress(NotFound):
            numbered = await core.users.get(int(user))
    if named and numbered and named.id != numbered.id:
        said = f"{user} is the number of one user and the name of another: say {numbered.username!r} or {named.id}."
        raise Conflict(said)
    if found := named or numbered:
        return found
    raise NotFound(f"There is no user {user!r}.")


async def _first_admin(core: Core) -> NewKey | None:
    """The first admin's key, where there is no user yet."""
    if await core.users.any():
        return None
    try:
        admin = await core.users.create(UserDraft("admin", role="admin"))
    except Duplicate:
        # Another service that starts on the same new database was faster, and announces it.
        return None
    return await core.keys.create(admin.id, KeyDraft("first key", "admin", SCOPES), None)


def _sentence(error: ValidationError) -> str:
    return "; ".join(f"{'.'.join(str(part) for part in one['loc'])}: {one['msg']}" for one in error.errors())


def _embedded(settings: Settings) -> bool:
    return async_url(database_url(settings)).get_backend_name() == "sqlite"


def _welcome(first: NewKey, host: str, port: int) -> str:
    address = f"http://{'127.0.0.1' if host in ('0.0.0.0', '::', '') else host}:{port}"
    return f"""
  The admin's key, shown this once:

    {first.token}

  Ask something:

    curl {address}/chat/completions \\
      -H 'Authorization: Bearer {first.token}' \\
      -H 'Content-Type: application/json' \\
      -d '{{"messages": [{{"role": "user", "content": "Say hello in one sentence."}}]}}'

  Look around: {address}/docs
"""
