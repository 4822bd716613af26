"""Models that an admin registered or changed, and the prices that they had. They belong to nobody."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Row, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.model_tables import model_prices, models
from service.db.types import now

PRICES = ("input_nano", "output_nano", "cache_read_nano", "cache_write_nano")


async def read_state(connection: AsyncConnection) -> tuple[int, int]:
    """How many rows there are and the sum of their versions: another pair after every committed change."""
    query = select(func.count(), func.coalesce(func.sum(models.c.version), 0)).select_from(models)
    count, versions = (await connection.execute(query)).one()
    return int(count), int(versions)


async def list_models(connection: AsyncConnection) -> list[Row[Any]]:
    return list(await connection.execute(select(models).order_by(models.c.id)))


async def lock_model(connection: AsyncConnection, model_id: str) -> Row[Any] | None:
    """The model's row, held until the transaction ends."""
    return (await connection.execute(select(models).where(models.c.id == model_id).with_for_update())).first()


async def add_model(connection: AsyncConnection, values: Mapping[str, Any]) -> None:
    """Raises IntegrityError where there is one of this id."""
    await connection.execute(insert(models), dict(values))


async def edit_model(connection: AsyncConnection, model_id: str, values: Mapping[str, Any]) -> None:
    change = update(models).where(models.c.id == model_id)
    await connection.execute(change.values(**values, version=models.c.version + 1, updated_at=now()))


async def add_prices(
    connection: AsyncConnection, model_id: str, *, version: int, prices: Mapping[str, int | None]
) -> None:
    """Remember what a model costs from this version on; null: what others say."""
    await connection.execute(insert(model_prices), {"model_id": model_id, "version": version, **prices})


async def list_prices(connection: AsyncConnection, model_id: str) -> list[Row[Any]]:
    """The prices that a model had, the first ones first."""
    query = select(model_prices).where(model_prices.c.model_id == model_id).order_by(model_prices.c.version)
    return list(await connection.execute(query))
