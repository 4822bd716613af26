"""The page to chat on: the files beside this one, which ask nobody but the service they come from."""

from pathlib import Path
from typing import Annotated, Literal

from fastapi import APIRouter, Depends
from fastapi import Path as PathParameter
from starlette.responses import FileResponse

from service.api.deps import public

router = APIRouter(include_in_schema=False, dependencies=[Depends(public)])

ASSETS = Path(__file__).with_name("assets")
Asset = Literal["everturn.css", "api.js", "stream.js", "text.js", "sidebar.js", "branches.js", "talk.js", "main.js"]
# What people and models wrote is shown as text; should a script ever get into it, the browser does not run it.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def get_page() -> FileResponse:
    """The page itself, at `/` for browsers."""
    return FileResponse(ASSETS / "index.html", headers={**HEADERS, "Vary": "Accept"})


@router.get("/web/{asset}")
async def get_asset(asset: Annotated[Asset, PathParameter()]) -> FileResponse:
    """A style or a script of the page."""
    return FileResponse(ASSETS / asset, headers=HEADERS)
