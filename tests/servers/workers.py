"""Two services on one database, whose provider records each prompt that it gets."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import create_async_engine

from service.db.engine import async_url
from tests.servers.provider import Plan, Provider
from tests.servers.service import Service

LEASE = 3
DRAIN = 2
MODEL = "slow"
OTHER = "other"


def settings(provider: Provider) -> dict[str, str]:
    """A priced model, another one that it can fall back to, a third whose window is small; one that costs nothing, and
    one of which nobody knows what it costs."""
    served = {"base_url": provider.base_url}
    priced = {"input_price": "1", "output_price": "1"}
    models = [
        {"id": MODEL, "provider": "slow", **priced},
        {"id": OTHER, "provider": "spare", **priced},
        {"id": "backed", "provider": "slow", "fallbacks": [OTHER], **priced},
        {"id": "narrow", "provider": "spare", "max_tokens": 60, "max_output_tokens": 20, **priced},
        {"id": "free", "provider": "slow", "input_price": "0", "output_price": "0"},
        {"id": "unpriced", "provider": "slow"},
    ]
    return {
        "EVERTURN_PROVIDERS": json.dumps([{"name": "slow", **served}, {"name": "spare", **served}]),
        "EVERTURN_MODELS": json.dumps(models),
        "EVERTURN_DEFAULT_MODEL": MODEL,
        "EVERTURN_LEASE_SECONDS": str(LEASE),
        "EVERTURN_DRAIN_SECONDS": str(DRAIN),
        "EVERTURN_RETRIES": "2",
    }


@dataclass(frozen=True)
class Pair:
    """Two services on one database, for all tests; one that was stopped is started again before the next test."""

    one: Service
    two: Service
    provider: Provider
    database_url: str
    admin_key: str
    folder: Path

    @property
    def services(self) -> tuple[Service, Service]:
        return self.one, self.two

    async def start(self) -> None:
        """Have both running."""
        dead = [one for one in self.services if not one.runs]
        await asyncio.gather(*(asyncio.to_thread(one.start) for one in dead))

    async def rows(self, query: str, values: Mapping[str, Any] | None = None) -> list[Row[Any]]:
        """What the database holds."""
        engine = create_async_engine(async_url(self.database_url))
        try:
            async with engine.connect() as connection:
                return list(await connection.execute(text(query), values or {}))
        finally:
            await engine.dispose()


@dataclass(frozen=True)
class Two:
    """The pair as one new user of it sees it: a client for each service."""

    pair: Pair
    user_id: int
    here: httpx2.AsyncClient
    there: httpx2.AsyncClient

    @property
    def one(self) -> Service:
        return self.pair.one

    @property
    def two(self) -> Service:
        return self.pair.two

    @property
    def clients(self) -> tuple[httpx2.AsyncClient, httpx2.AsyncClient]:
        return self.here, self.there

    def plan(self, about: str = "Q", **how: Any) -> Plan:
        """What the provider will answer to a new question."""
        return self.pair.provider.plan(about, **how)

    async def rows(self, query: str, **values: object) -> list[Row[Any]]:
        """What the database holds; `:user` in the query is this user."""
        return await self.pair.rows(query, {"user": self.user_id, **values} if ":user" in query else values)
