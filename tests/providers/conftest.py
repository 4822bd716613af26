"""Adapters of both wires that talk to a raw server, closed after the test."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from service.providers import anthropic, openai
from service.providers.adapter import Adapter
from tests.providers.raw import KEY, MakeAdapter, RawServer, endpoint


@pytest.fixture
async def raw() -> AsyncIterator[RawServer]:
    server = RawServer()
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    try:
        yield server
    finally:
        listener.close()


@pytest.fixture
async def make_openai(raw: RawServer) -> AsyncIterator[MakeAdapter]:
    made: list[Adapter] = []

    def make(url: str = "", own_address: bool = False, lasting: bool = True, **timeouts: float) -> Adapter:
        where = replace(endpoint(url or raw.url, openai.auth_headers(KEY), **timeouts), lasting=lasting)
        made.append(openai.OpenAIProvider("openai", where, own_address=own_address))
        return made[-1]

    yield make
    for adapter in made:
        await adapter.close()


@pytest.fixture
async def make_anthropic(raw: RawServer) -> AsyncIterator[MakeAdapter]:
    made: list[Adapter] = []

    def make(url: str = "", **timeouts: float) -> Adapter:
        made.append(
            anthropic.AnthropicProvider("anthropic", endpoint(url or raw.url, anthropic.wire_headers(KEY), **timeouts))
        )
        return made[-1]

    yield make
    for adapter in made:
        await adapter.close()
