"""Interactive documentation, whose scripts the service serves itself: these pages ask nobody else for anything."""

import asyncio
from pathlib import Path
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Request
from fastapi import Path as PathParameter
from pydantic_core import to_json
from starlette.responses import FileResponse, HTMLResponse, Response

from service.api.deps import public

router = APIRouter(include_in_schema=False, dependencies=[Depends(public)])

STATIC = Path(__file__).parents[1] / "static"
Asset = Literal["swagger-ui-bundle.js", "swagger-ui.css", "redoc.standalone.js"]
CACHED = {"Cache-Control": "public, max-age=86400"}
# Redoc's page would fetch its maker's logo; here the browser is told to ask this service only.
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; script-src 'self' 'unsafe-inline'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; "
    "worker-src 'self' blob:; frame-ancestors 'none'"
}
HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Everturn</title><link rel="icon" href="data:,">"""
SWAGGER = f"""{HEAD}<link rel="stylesheet" href="/docs/assets/swagger-ui.css"></head>
<body><div id="swagger-ui"></div><script src="/docs/assets/swagger-ui-bundle.js"></script><script>
SwaggerUIBundle({{url: "/openapi.json", dom_id: "#swagger-ui", deepLinking: true, persistAuthorization: true,
  validatorUrl: null, presets: [SwaggerUIBundle.presets.apis]}})
</script></body></html>
"""
REDOC = f"""{HEAD}<style>body{{margin:0}}</style></head>
<body><redoc spec-url="/openapi.json"></redoc><script src="/docs/assets/redoc.standalone.js"></script></body></html>
"""


@router.get("/docs")
async def get_docs() -> HTMLResponse:
    """A page to try the API on."""
    return HTMLResponse(SWAGGER, headers=HEADERS)


@router.get("/redoc")
async def get_reference() -> HTMLResponse:
    """A page to read the API's reference on."""
    return HTMLResponse(REDOC, headers=HEADERS)


@router.get("/openapi.json")
async def get_description(request: Request) -> Response:
    """The description that both pages read. Made in a thread: it takes the time of some hundred answers."""
    state = request.app.state
    if not hasattr(state, "description"):
        state.description = await asyncio.to_thread(lambda: to_json(request.app.openapi()))
    return Response(state.description, media_type="application/json")


@router.get("/docs/assets/{name}")
async def get_asset(name: Annotated[Asset, PathParameter()]) -> FileResponse:
    """One of the vendored files; vendored.json beside them says where they are from."""
    return FileResponse(STATIC / name, headers=CACHED)
