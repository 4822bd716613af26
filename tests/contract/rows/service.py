"""The service itself."""

import re

import httpx2

from service.db.engine import Database
from service.db.migrate import SCHEMA
from tests.api.steps import call
from tests.contract.desk import Desk, checks


@checks("GET /")
async def get_root(desk: Desk) -> None:
    anonymous = desk.people.anonymous
    root = await call(anonymous, "GET", "/", expect=200)
    assert (root["name"], bool(root["version"])) == ("Everturn", True)
    assert {"docs", "health", "web"} <= root["links"].keys()
    for link in root["links"].values():
        assert (await anonymous.get(link)).status_code == 200
    page = await anonymous.get(root["links"]["web"], headers={"Accept": "text/html"})
    assert page.headers["content-type"].startswith("text/html")


@checks("GET /health")
async def get_health(desk: Desk) -> None:
    assert await call(desk.people.anonymous, "GET", "/health", expect=200) == {"status": "healthy"}


@checks("GET /health/ready")
async def get_readiness(desk: Desk) -> None:
    anonymous = desk.people.anonymous
    assert (await call(anonymous, "GET", "/health/ready", expect=200))["status"] == "ready"
    database = Database(desk.running.database_url)
    try:
        await _set_schema(database, "2099_01_01_future")
        reply = await anonymous.get("/health/ready")
        assert reply.status_code == 503
        assert "2099_01_01_future" in reply.json()["detail"]
        assert int(reply.headers["retry-after"]) > 0
    finally:
        await _set_schema(database, SCHEMA)
        await database.close()
    assert (await anonymous.get("/health/ready")).status_code == 200


async def _set_schema(database: Database, version: str) -> None:
    async with database.transaction() as connection:
        await connection.exec_driver_sql(f"UPDATE alembic_version SET version_num = '{version}'")


@checks("GET /docs", "GET /redoc", "GET /openapi.json")
async def get_docs(desk: Desk) -> None:
    anonymous = desk.people.anonymous
    for path in ("/docs", "/redoc"):
        page = await anonymous.get(path)
        assert page.headers["content-type"].startswith("text/html")
        assets = re.findall(r'(?:src|href)="([^"]+)"', page.text)
        assert [asset for asset in assets if asset.endswith(".js")]
        for asset in assets:
            assert asset.startswith(("/", "data:")), f"{path} asks somebody else for {asset}"
            assert asset.startswith("data:") or (await anonymous.get(asset)).status_code == 200
    described = await call(anonymous, "GET", "/openapi.json", expect=200)
    for operations in described["paths"].values():
        for operation in operations.values():
            assert operation["summary"]
            if operation["tags"] != ["service"]:
                assert operation["security"]
                assert {"401", "503"} <= operation["responses"].keys()


@checks("GET /metrics")
async def get_metrics(desk: Desk) -> None:
    reply: httpx2.Response = await desk.people.anonymous.get("/metrics")
    assert reply.headers["content-type"].startswith("text/plain")
    assert "# TYPE everturn_http_requests_total counter" in reply.text
