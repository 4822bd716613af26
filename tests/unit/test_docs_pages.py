"""The documentation pages ask nobody but the service, and serve what vendored.json says."""

import hashlib
import json
import re

import httpx2
import pytest
from fastapi import FastAPI

from service.api.rest import docs

VENDORED = json.loads((docs.STATIC / "vendored.json").read_text())


@pytest.fixture
def client() -> httpx2.AsyncClient:
    app = FastAPI(docs_url=None, redoc_url=None)
    app.include_router(docs.router)
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://test")


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
async def test_a_page_names_only_what_the_service_has(client: httpx2.AsyncClient, path: str) -> None:
    page = await client.get(path)
    assert page.headers["content-security-policy"].startswith("default-src 'self';")
    named = re.findall(r'(?:src|href|spec-url)="([^"]+)"|url: "([^"]+)"', page.text)
    addresses = {one or other for one, other in named} - {"data:,"}
    assert "/openapi.json" in addresses
    for address in addresses:
        assert (await client.get(address)).status_code == 200, address


@pytest.mark.parametrize("row", VENDORED, ids=lambda row: str(row["file"]))
async def test_an_asset_is_what_its_hash_says(client: httpx2.AsyncClient, row: dict[str, str]) -> None:
    reply = await client.get(f"/docs/assets/{row['file']}")
    assert hashlib.sha256(reply.content).hexdigest() == row["sha256"]
    assert "max-age" in reply.headers["cache-control"]


async def test_nothing_else_is_served(client: httpx2.AsyncClient) -> None:
    for name in ("vendored.json", "..%2Fdeps.py", "nothing.js"):
        assert (await client.get(f"/docs/assets/{name}")).status_code in (404, 422)
