"""The administrator's models: registered, changed and switched off in the database, for all workers to see."""

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sqlalchemy import Row
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.engine import Database
from service.domain.claims import Claim
from service.domain.meters import NANO, Prices
from service.domain.tasks import end
from service.errors import Duplicate, EverturnError, UnknownModel, Unprocessable
from service.providers.overrides import Override
from service.providers.registry import Registry
from service.repositories import models as rows
from service.turns.claims import Claims, Once

log = logging.getLogger(__name__)

# How soon another worker hears of a change.
LOOK_SECONDS = 2.0
RESERVED = ("/config", "/completions")
PRICES = dict(zip(rows.PRICES, Prices.__slots__, strict=True))
SAID = ("provider", "upstream", "max_tokens", "max_output_tokens", "tools", "images", "reasoning", "fallbacks")
UNSAID = dict.fromkeys((*SAID, *PRICES, "price_version"))


@dataclass(frozen=True, slots=True)
class Registered:
    """What registering a model makes: its id."""

    id: str


class Models:
    """Changes the catalogue, and keeps this worker's registry at what the database says."""

    def __init__(self, database: Database, registry: Registry, claims: Claims) -> None:
        self._claims = claims
        self._database = database
        self._registry = registry
        self._state: tuple[int, int] | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Hear what was said so far, and go on listening. A database that is away is waited for."""
        await self._look()
        self._task = asyncio.create_task(self._listen(), name="models")

    async def stop(self) -> None:
        await end(self._task)

    async def refresh(self) -> None:
        """Bring this worker's catalogue to what the database says now; one short statement if nothing changed."""
        async with self._database.reading() as connection:
            state = await rows.read_state(connection)
            if state == self._state:
                return
            found = await rows.list_models(connection)
        self._registry.override(_override(row) for row in found)
        self._state = state

    async def create(self, model_id: str, values: Mapping[str, Any], claim: Claim | None) -> Once[Registered]:
        """Register a model; `values` are SAID and `prices`. Raises Duplicate for one that can be asked already."""
        if model_id.endswith(RESERVED) or model_id == "list":
            raise Unprocessable("This id would hide an address of the service.", loc=("body", "id"))
        self._check_provider(values)
        await self.refresh()
        await self._offer(model_id)
        await self._check_fallbacks(model_id, values)
        made = {**UNSAID, **_columns(values), "disabled": False}

        async def work(connection: AsyncConnection) -> Registered:
            row = await rows.lock_model(connection, model_id)
            if self._registry.known_model(model_id) or (row is not None and not row.disabled):
                raise Duplicate(f"There is a model {model_id!r} already; PATCH changes it.", facts={"field": "id"})
            await self._put(connection, model_id, dict(made), row)
            return Registered(model_id)

        try:
            return await self._claims.once(claim, work, kind=Registered)
        except IntegrityError as error:
            raise Duplicate(f"There is a model {model_id!r} already.", facts={"field": "id"}) from error
        finally:
            await self.refresh()

    async def edit(self, name: str, values: Mapping[str, Any]) -> str:
        """Change what `values` names of a model, wherever it is known from, and return its id.

        None takes back what was said here. Raises UnknownModel, Unprocessable for an unknown provider and for
        fallbacks that are unknown, the model itself or named twice.
        """
        self._check_provider(values)
        await self.refresh()
        model_id, base = await self._find(name)
        await self._check_fallbacks(model_id, values)
        try:
            await self._change(model_id, base, values)
        except IntegrityError:
            # Another change of the same model was the first to be written: this one comes after it.
            await self._change(model_id, base, values)
        await self.refresh()
        return model_id

    async def disable(self, name: str) -> None:
        """Switch a model off, wherever it is known from; turns that run go on. Raises UnknownModel, also if it is."""
        await self.refresh()
        await self.edit((await self._registry.find_model(name)).id, {"disabled": True})

    async def _offer(self, model_id: str) -> None:
        """Ask the providers for a model that is not known yet, so that its id is not given to another."""
        with suppress(UnknownModel):
            await self._registry.find_model(model_id)

    async def _find(self, name: str) -> tuple[str, dict[str, Any]]:
        """The id of a model, one that is switched off too, and what a first row of it must say."""
        listed = [*self._registry.list_models(), *self._registry.list_models(disabled=True)]
        if any(model.id == name for model in listed):
            return name, {}
        model = await self._registry.find_model(name)
        if any(one.id == model.id for one in listed):
            return model.id, {}
        # A dated release, which is known by the name without its date.
        return model.id, {"provider": model.provider, "upstream": model.upstream}

    async def _change(self, model_id: str, base: Mapping[str, Any], values: Mapping[str, Any]) -> None:
        columns = _columns(values)

        async def work(connection: AsyncConnection) -> None:
            row = await rows.lock_model(connection, model_id)
            await self._put(connection, model_id, dict(columns) if row else {**base, **columns}, row)

        await self._database.atomically(work)

    async def _put(
        self, connection: AsyncConnection, model_id: str, columns: dict[str, Any], row: Row[Any] | None
    ) -> None:
        """Write a row or change it; other prices than it had become its next ones. Raises IntegrityError."""
        version = row.version + 1 if row else 1
        prices = {name: columns[name] for name in PRICES if name in columns}
        had = {name: row._mapping[name] if row else None for name in PRICES}
        if prices and prices != had:
            columns["price_version"] = version
            await rows.add_prices(connection, model_id, version=version, prices=prices)
        else:
            columns.pop("price_version", None)
        if row is None:
            await rows.add_model(connection, {"id": model_id, **columns})
        else:
            await rows.edit_model(connection, model_id, columns)

    def _check_provider(self, values: Mapping[str, Any]) -> None:
        named = values.get("provider")
        if named is not None and named not in self._registry.provider_names():
            known = ", ".join(self._registry.provider_names()) or "none is configured"
            raise Unprocessable(f"Unknown provider; known: {known}.", loc=("body", "provider"))

    async def _check_fallbacks(self, model_id: str, values: Mapping[str, Any]) -> None:
        """Those of a fallback are not asked in turn: two models may be each other's."""
        seen = {model_id}
        for place, name in enumerate(values.get("fallbacks") or ()):
            loc = ("body", "fallbacks", place)
            try:
                found = (await self._registry.find_model(name)).id
            except UnknownModel:
                # A model that is being registered falls back to itself by its name.
                found = name
                if name != model_id:
                    raise Unprocessable(f"There is no model {name!r}.", loc=loc) from None
            if found in seen:
                what = "A model cannot be its own fallback." if found == model_id else f"{name!r} is named twice."
                raise Unprocessable(what, loc=loc)
            seen.add(found)

    async def _listen(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self._look()

    async def _look(self) -> None:
        with suppress(EverturnError):
            await self.refresh()


def _columns(values: Mapping[str, Any]) -> dict[str, Any]:
    """Fields as columns; `prices` as four numbers of nano-dollars per million tokens."""
    columns = {name: value for name, value in values.items() if name != "prices"}
    if "prices" in values:
        prices: Prices | None = values["prices"]
        columns |= {column: _nano(None if prices is None else getattr(prices, name)) for column, name in PRICES.items()}
    return columns


def _nano(price: Decimal | None) -> int | None:
    return None if price is None else int(price * NANO)


def _override(row: Row[Any]) -> Override:
    said = {name: row._mapping[name] for name in SAID}
    said["fallbacks"] = None if row.fallbacks is None else tuple(row.fallbacks)
    return Override(
        id=row.id, **said, prices=_prices(row), price_version=str(row.price_version or ""), disabled=row.disabled
    )


def _prices(row: Row[Any]) -> Prices | None:
    if row.input_nano is None or row.output_nano is None:
        return None
    read, write = (None if nano is None else nano / NANO for nano in (row.cache_read_nano, row.cache_write_nano))
    return Prices(row.input_nano / NANO, row.output_nano / NANO, read, write)
