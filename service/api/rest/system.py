"""The service itself: its name, its health, its metrics."""

import asyncio
import os
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import JSONResponse

from service import __version__
from service.api.deps import Services, metrics_policy, public, services
from service.api.errors import responses
from service.api.web.page import get_page
from service.db.migrate import verify_schema
from service.errors import DatabaseUnavailable, Unavailable
from service.providers.breaker import State

router = APIRouter(tags=["service"])

PUBLIC = [Depends(public)]
TEXT: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/plain": {"example": "everturn_http_requests_total 1.0\n"}}}
}
Use = Annotated[Services, Depends(services)]
READY_SECONDS = 5
LINKS = {
    "docs": "/docs",
    "redoc": "/redoc",
    "openapi": "/openapi.json",
    "health": "/health",
    "ready": "/health/ready",
    "web": "/",
}


class Root(BaseModel):
    """What this is and where to go on."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"name": "Everturn", "version": __version__, "links": dict(LINKS)}}
    )

    name: str = "Everturn"
    version: str = __version__
    links: dict[str, str] = LINKS


class Health(BaseModel):
    """How the service is."""

    model_config = ConfigDict(json_schema_extra={"example": {"status": "healthy"}})

    status: str


class Readiness(Health):
    """Whether the worker can serve, and how it gets on with its providers: `closed`, `half_open` or `open`."""

    circuits: dict[str, State] = Field(examples=[{"openai": "closed", "local": "closed"}])


@router.get("/", summary="Name, version and links", dependencies=PUBLIC, response_model=Root)
async def get_root(request: Request) -> Response:
    """JSON, or a page to chat on for a browser (`Accept: text/html`)."""
    if "text/html" in request.headers.get("accept", ""):
        return get_page()
    return JSONResponse(Root().model_dump(), headers={"Vary": "Accept"})


@router.get("/health", summary="Is the process alive?", dependencies=PUBLIC)
async def get_health() -> Health:
    """Asks nothing of the database."""
    return Health(status="healthy")


@router.get("/health/ready", summary="Can it serve?", dependencies=PUBLIC, responses=responses(503))
async def get_readiness(use: Use) -> Readiness:
    """503 while the worker drains, the database is away or its schema is another version's. A provider that is left
    alone for now, because it kept failing, does not make the worker unready."""
    if use.engine.draining:
        raise Unavailable("This worker is shutting down.", retry_after=1)
    try:
        async with asyncio.timeout(READY_SECONDS):
            await verify_schema(use.database)
    except TimeoutError:
        raise DatabaseUnavailable(f"The database did not answer within {READY_SECONDS} s.") from None
    circuits = {name: use.registry.breaker(name).state for name in use.registry.provider_names()}
    return Readiness(status="ready", circuits=circuits)


@router.get(
    "/metrics",
    summary="Prometheus metrics",
    dependencies=[Depends(metrics_policy)],
    response_class=Response,
    responses=TEXT | responses(401, 403, 404),
)
async def get_metrics() -> Response:
    """Open, for admin keys only, or switched off, as EVERTURN_METRICS says."""
    registry = REGISTRY
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
