"""The composition root: with adapters.py the only file that names an adapter or reads the settings."""

import gc
import logging
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from starlette.middleware.cors import CORSMiddleware

from service import __version__, logs
from service.adapters import build_registry
from service.api import describe, errors
from service.api.deps import Services
from service.api.middleware import EXPOSED, Edge, Guard, Upload
from service.api.rest import (
    branches,
    chat,
    compare,
    completions,
    conversations,
    docs,
    files,
    keys,
    limits,
    messages,
    models,
    porting,
    prompts,
    search,
    system,
    usage,
    users,
)
from service.api.web import page
from service.blobs.arriving import Arriving, Quota
from service.blobs.store import Store
from service.config import Settings
from service.db.engine import STATEMENT_SECONDS, Database
from service.db.ids import Ids
from service.db.migrate import verify_schema
from service.db.pepper import load_pepper
from service.domain.cursors import Cursors
from service.domain.keys import derive
from service.errors import DatabaseUnavailable
from service.providers.registry import Registry
from service.repositories.paging import Pager
from service.turns.claims import Claims
from service.turns.draining import Draining
from service.turns.engine import Engine
from service.turns.folds import Folds
from service.turns.images import Images
from service.turns.keeping import Keeping
from service.turns.recovery import Recovery
from service.turns.running import Retries
from service.turns.titles import Titles
from service.turns.watch import Watch
from service.usecases.catalog import Catalog
from service.usecases.comparisons import Comparisons
from service.usecases.completions import Completions
from service.usecases.conversations import Conversations
from service.usecases.erasures import Erasures
from service.usecases.exports import Exports
from service.usecases.files import Files
from service.usecases.folding import Folding
from service.usecases.imports import Imports
from service.usecases.keys import Keys
from service.usecases.limits import Limits
from service.usecases.messages import Messages
from service.usecases.models import Models
from service.usecases.search import Search
from service.usecases.turns import Turns
from service.usecases.upkeep import Upkeep
from service.usecases.usage import Usage
from service.usecases.users import Users

log = logging.getLogger(__name__)

# In this order the documentation shows them.
ROUTERS = (
    system,
    docs,
    page,
    models,
    users,
    porting,
    keys,
    limits,
    conversations,
    branches,
    messages,
    chat,
    completions,
    search,
    prompts,
    files,
    usage,
    compare,
)


@dataclass(frozen=True, slots=True)
class Core:
    """What works on the database alone, for the service and for the command line."""

    database: Database
    ids: Ids
    cursors: Cursors
    pager: Pager
    claims: Claims
    store: Store
    users: Users
    erasures: Erasures
    keys: Keys
    files: Files
    images: Images
    imports: Imports
    exports: Exports

    async def close(self) -> None:
        self.store.close()
        await self.database.close()


def create_app(settings: Settings | None = None) -> FastAPI:
    """The application. Nothing is opened before it starts, so its schema can be read without a database."""
    settings = settings or Settings()

    app = FastAPI(
        title="Everturn",
        version=__version__,
        summary="A self-hosted, multi-user chat backend that never loses a turn.",
        lifespan=lambda app: run_worker(app, settings),
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
    )
    errors.install(app)
    describe.install(app)
    for noun in ROUTERS:
        app.include_router(noun.router)
    # FastAPI makes a router's routes when they are first looked at: now, so that no request waits for it.
    list(iter_route_contexts(app.routes))
    _add_edge(app, settings)
    return app


def _add_edge(app: FastAPI, settings: Settings) -> None:
    """What every request passes before the routes; what is added last is the outermost."""
    imported = Upload("POST", re.compile("/users/[^/]+/import"), settings.max_import_bytes)
    written = Upload("PUT", re.compile("/files/.*", re.DOTALL), settings.max_file_bytes)
    app.add_middleware(Guard, max_body_bytes=settings.max_body_bytes, uploads=(imported, written))
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=EXPOSED,
        )
    app.add_middleware(Edge)


@asynccontextmanager
async def run_worker(app: FastAPI, settings: Settings) -> AsyncIterator[None]:
    """The life of a worker: from the settings to what serves, until it has drained."""
    logs.configure(settings.log_level, settings.log_format)
    core = build_core(settings)
    registry = build_registry(settings)
    lease, retries = settings.lease_seconds, Retries(settings.retries)
    engine = Engine(core.database, core.ids, registry, lease_seconds=lease, retries=retries, fetch=core.images.fetch)
    recovery = Recovery(core.database, core.ids, registry, engine, lease_seconds=lease)
    watch = Watch(core.database, engine.lives, recovery, lease_seconds=lease)
    folds = Folds(core.database, settings.journal_hours) if settings.journal_hours else None
    folding, upkeep = Folding(core.database), Upkeep(core.database, core.store, folds)
    titles = Titles(core.database, engine, registry, settings.title_model)
    draining = Draining(engine, recovery, watch, grace=settings.drain_seconds)
    app.state.services = served = build_services(settings, core, registry, engine)
    try:
        await _check_schema(core.database)
        await registry.start()
        await served.models.start()
        await engine.start()
        watch.start()
        folding.start()
        upkeep.start()
        titles.start()
        draining.listen()
        # Full collections over what stays for good cost tens of milliseconds each.
        gc.collect()
        gc.freeze()
        yield
    finally:
        await folding.stop()
        await upkeep.stop()
        await titles.stop()
        await draining.run()
        draining.close()
        await served.models.stop()
        await registry.close()
        await core.close()


def build_core(settings: Settings, *, statement_seconds: float | None = STATEMENT_SECONDS) -> Core:
    """The database and what needs nothing else. Raises WeakPepperError, ValueError for a database that is neither.

    `statement_seconds` is how long Postgres may take for one statement; None for as long as it needs.
    """
    url = database_url(settings)
    pepper = load_pepper(url, settings.pepper.get_secret_value() if settings.pepper else None)
    database = Database(
        url,
        pool=settings.database_pool,
        synchronous=settings.sqlite_synchronous,
        statement_seconds=statement_seconds,
    )
    ids = Ids(database)
    cursors = Cursors(derive(pepper, "cursors"))
    pager, claims = Pager(cursors), Claims(database)
    store = Store(settings.files_dir or settings.data_dir / "files", spare_bytes=settings.spare_disk_bytes)
    users = Users(database, ids, pager, claims=claims)
    erasures = Erasures(database, store, users.forget)
    keys = Keys(database, ids, pager, claims=claims, pepper=pepper)
    quota = Quota(settings.user_file_bytes, settings.user_files)
    arriving = Arriving(quota.bytes)
    files = Files(database, pager, store, arriving, quota=quota)
    images = Images(database, store, claims, Keeping(database, store, arriving, quota=quota))
    imports = Imports(database, ids, settings.data_dir, bring=files.bring, most_bytes=settings.max_import_bytes)
    exports = Exports(database, store)
    return Core(database, ids, cursors, pager, claims, store, users, erasures, keys, files, images, imports, exports)


def database_url(settings: Settings) -> str:
    """The address that is set, or the embedded database in the data directory."""
    return settings.database_url or f"sqlite:///{settings.data_dir / 'everturn.db'}"


def build_services(settings: Settings, core: Core, registry: Registry, engine: Engine) -> Services:
    """The use cases of one worker."""
    claims, images = core.claims, core.images
    turns = Turns(core.database, registry, engine, claims, images)
    return Services(
        users=core.users,
        erasures=core.erasures,
        keys=core.keys,
        limits=Limits(core.database, engine.limits.forget),
        imports=core.imports,
        exports=core.exports,
        conversations=Conversations(core.database, core.ids, core.pager, claims, images, registry),
        messages=Messages(core.database, core.ids, core.pager, claims, images),
        completions=Completions(core.database, core.pager, engine),
        turns=turns,
        comparisons=Comparisons(core.database, registry, turns.begin),
        claims=claims,
        registry=registry,
        catalog=Catalog(registry, core.cursors),
        models=Models(core.database, registry, claims),
        search=Search(core.database, core.pager),
        files=core.files,
        usage=Usage(core.database, core.pager, timeout=settings.report_timeout),
        engine=engine,
        hub=engine.hub,
        database=core.database,
        metrics=settings.metrics,
    )


async def _check_schema(database: Database) -> None:
    """Refuse to start on another schema. A database that is away is waited for while serving: it may come."""
    try:
        await verify_schema(database)
    except DatabaseUnavailable:
        log.warning("The database does not answer yet; /health/ready says when it does.")


def __getattr__(name: str) -> FastAPI:
    """`uvicorn service.main:app` finds the application; importing this module alone does not build it."""
    if name == "app":
        return create_app()
    raise AttributeError(name)
