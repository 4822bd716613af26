"""The page to chat on asks nobody but the service, and nothing beside it is served."""

import re
from typing import get_args

import httpx2
import pytest
from fastapi import FastAPI

from service.api.rest import system
from service.api.web import page


@pytest.fixture
def client() -> httpx2.AsyncClient:
    app = FastAPI(docs_url=None, redoc_url=None)
    app.include_router(system.router)
    app.include_router(page.router)
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://test")


async def test_a_browser_gets_the_page_and_others_json(client: httpx2.AsyncClient) -> None:
    asked = await client.get("/", headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert (asked.status_code, asked.headers["content-type"]) == (200, "text/html; charset=utf-8")
    plain = await client.get("/")
    assert plain.json()["name"] == "Everturn"
    assert asked.headers["vary"] == plain.headers["vary"] == "Accept"


async def test_the_page_may_run_and_ask_its_own_service_only(client: httpx2.AsyncClient) -> None:
    asked = await client.get("/", headers={"Accept": "text/html"})
    policy = dict(part.split(" ", 1) for part in asked.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    named = set(re.findall(r'(?:src|href)="([^"]+)"', asked.text)) - {"data:,", "/docs", "/redoc", "/health/ready"}
    assert named == {"/web/everturn.css", "/web/main.js"}
    assert "<style" not in asked.text
    assert not re.search(r"<script(?![^>]*src=)| on[a-z]+=| style=", asked.text)


async def test_each_file_is_served_with_what_it_imports(client: httpx2.AsyncClient) -> None:
    names = set(get_args(page.Asset))
    assert names | {"index.html"} == {path.name for path in page.ASSETS.iterdir()}
    for name in names:
        asked = await client.get(f"/web/{name}")
        assert asked.status_code == 200
        assert asked.headers["content-type"].startswith("text/css" if name.endswith(".css") else "text/javascript")
        assert set(re.findall(r'from "\./([^"]+)"', asked.text)) <= names
        assert not re.search(r"https?://|innerHTML|insertAdjacentHTML|document\.write|eval\(", asked.text), name


async def test_nothing_beside_them_is_served(client: httpx2.AsyncClient) -> None:
    for name in ("index.html", "..%2Fpage.py", "nothing.js", ""):
        assert (await client.get(f"/web/{name}")).status_code in (404, 422), name
