"""A desk at the running service."""

from collections.abc import AsyncIterator

import pytest
from llmock.pytest_plugin import LLMock

from tests.conftest import People, Running
from tests.contract.desk import Desk


@pytest.fixture
async def desk(people: People, llmock: LLMock, running_service: Running) -> AsyncIterator[Desk]:
    made = Desk(people, llmock, running_service)
    async with made.listening():
        yield made
