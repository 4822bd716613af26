"""A house for each test, on each kind of database."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.porting.house import House, open_house


@pytest.fixture
async def house(database_url: str, tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(database_url, tmp_path / "spool") as made:
        yield made
