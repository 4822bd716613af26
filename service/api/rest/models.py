"""The catalogue of models."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from starlette.responses import Response as Raw

from service.api.body import StrictRoute
from service.api.deps import Called, Services, admin_only, allow, services
from service.api.errors import responses
from service.api.idempotency import CallerClaimed, mark
from service.api.paging import PageOf, asked, paged
from service.api.rest.schemas.models import ModelConfig, ModelIn, ModelOut, ModelPatch
from service.domain.paging import Ask
from service.errors import Forbidden

router = APIRouter(tags=["models"], route_class=StrictRoute, responses=responses(400, 401, 403, 404, 422, 503))

READS = [Depends(allow("read"))]
ADMIN = [Depends(admin_only)]
BODY = responses(409, 413, 415)
Use = Annotated[Services, Depends(services)]
ModelId = Annotated[str, Path(max_length=200, description="May contain slashes.")]
CACHED = "private, max-age=60"


@router.get("/models", summary="List models", dependencies=READS)
@router.get("/models/list", summary="List models", dependencies=READS)
async def list_models(
    request: Request,
    response: Response,
    caller: Called,
    ask: Annotated[Ask, Depends(asked(10))],
    use: Use,
    provider: Annotated[str | None, Query(max_length=64)] = None,
    disabled: Annotated[bool, Query(description="Those that are switched off, for admin keys.")] = False,
) -> PageOf[ModelOut]:
    """By id, of one provider or of all."""
    if disabled and caller.kind != "admin":
        raise Forbidden("Only an admin key sees what is switched off.")
    return paged(request, response, use.catalog.page(provider, ask, disabled=disabled))


@router.post("/models", status_code=201, summary="Register a model", dependencies=ADMIN, responses=BODY)
async def create_model(body: ModelIn, response: Response, claim: CallerClaimed, use: Use) -> ModelOut:
    """For admin keys. All workers know it within seconds. 409 for an id that can be asked already: change that one."""
    values = body.values()
    done = await use.models.create(str(values.pop("id")), values, claim)
    mark(response, replayed=done.replayed)
    response.headers["Location"] = f"/models/{done.made.id}"
    return ModelOut.model_validate(use.catalog.shown(done.made.id))


@router.get("/models/{model_id:path}/config", summary="Get a model's effective configuration", dependencies=READS)
async def get_config(model_id: ModelId, request: Request, response: Response, use: Use) -> ModelConfig:
    """What a request to it will use. Cacheable: 304 where the `ETag` matches."""
    config = await use.catalog.config(model_id)
    headers = {"ETag": config.etag, "Cache-Control": CACHED}
    known = {tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")}
    if known & {config.etag, "*"}:
        return Raw(status_code=304, headers=headers)  # type: ignore[return-value]  # FastAPI sends a response as it is
    response.headers.update(headers)
    return ModelConfig.model_validate(config.fields)


@router.get("/models/{model_id:path}", summary="Get a model", dependencies=READS)
async def get_model(model_id: ModelId, use: Use) -> ModelOut:
    """By its id, or by `<provider>/<the provider's own name>`."""
    return ModelOut.model_validate(await use.catalog.get(model_id))


@router.patch("/models/{model_id:path}", summary="Change a model", dependencies=ADMIN, responses=BODY)
async def edit_model(model_id: ModelId, body: ModelPatch, use: Use) -> ModelOut:
    """For admin keys, wherever the model is known from. A new price holds for turns that begin from now on; what was
    charged stays, and each ledger entry names the price that it was charged by."""
    return ModelOut.model_validate(use.catalog.shown(await use.models.edit(model_id, body.values())))


@router.delete("/models/{model_id:path}", status_code=204, summary="Switch a model off", dependencies=ADMIN)
async def disable_model(model_id: ModelId, use: Use) -> None:
    """For admin keys. Nobody can ask it any more; running turns go on, and what it cost stays in the ledger. `PATCH`
    with `"disabled": false` or `POST` brings it back."""
    await use.models.disable(model_id)
