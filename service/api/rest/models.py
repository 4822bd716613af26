"""The catalogue of models."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from starlette.responses import Response as Raw

from service.api.body import StrictRoute
from service.api.deps import Services, allow, services
from service.api.errors import responses
from service.api.paging import PageOf, asked, paged
from service.api.rest.schemas.models import ModelConfig, ModelOut
from service.domain.paging import Ask

router = APIRouter(
    tags=["models"],
    route_class=StrictRoute,
    responses=responses(400, 401, 403, 404, 422, 503),
    dependencies=[Depends(allow("read"))],
)

Use = Annotated[Services, Depends(services)]
ModelId = Annotated[str, Path(max_length=200, description="May contain slashes.")]
CACHED = "private, max-age=60"


@router.get("/models", summary="List models")
@router.get("/models/list", summary="List models")
async def list_models(
    request: Request,
    response: Response,
    ask: Annotated[Ask, Depends(asked(10))],
    use: Use,
    provider: Annotated[str | None, Query(max_length=64)] = None,
) -> PageOf[ModelOut]:
    """By id, of one provider or of all."""
    return paged(request, response, use.catalog.page(provider, ask))


@router.get("/models/{model_id:path}/config", summary="Get a model's effective configuration")
async def get_config(model_id: ModelId, request: Request, response: Response, use: Use) -> ModelConfig:
    """What a request to it will use. Cacheable: 304 where the `ETag` matches."""
    config = await use.catalog.config(model_id)
    headers = {"ETag": config.etag, "Cache-Control": CACHED}
    known = {tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")}
    if known & {config.etag, "*"}:
        return Raw(status_code=304, headers=headers)  # type: ignore[return-value]  # FastAPI sends a response as it is
    response.headers.update(headers)
    return ModelConfig.model_validate(config.fields)


@router.get("/models/{model_id:path}", summary="Get a model")
async def get_model(model_id: ModelId, use: Use) -> ModelOut:
    """By its id, or by `<provider>/<the provider's own name>`."""
    return ModelOut.model_validate(await use.catalog.get(model_id))
