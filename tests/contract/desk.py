"""Where the contract is tried: clients whose traffic is recorded, and the checks that send it."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2
from llmock.pytest_plugin import LLMock

from tests.conftest import People, Running
from tests.contract.page import Call

Check = Callable[["Desk"], Awaitable[None]]
CHECKS: dict[str, Check] = {}


def checks(*calls: str) -> Callable[[Check], Check]:
    """A function that tries these calls of the page, written with their methods and templates."""

    def add(check: Check) -> Check:
        for call in calls:
            assert call not in CHECKS, f"{call} has a check already"
            CHECKS[call] = check
        return check

    return add


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request and its answer."""

    request: httpx2.Request
    reply: httpx2.Response

    @property
    def parameters(self) -> dict[str, list[str]]:
        """The values of the query, by name; those without a value were not sent."""
        found: dict[str, list[str]] = {}
        for name, value in self.request.url.params.multi_items():
            if value:
                found.setdefault(name, []).append(value)
        return found

    @property
    def names(self) -> set[str]:
        """The names of all fields that went over the wire, at any depth, in JSON or in server-sent events."""
        texts = [self.request.content.decode("utf-8", "replace"), self.reply.text]
        return {name for text in texts for value in _values(text) for name in _names(value)}


@dataclass(frozen=True, slots=True)
class Desk:
    """People at a running service, what they sent, and one of each kind of thing that the owner has."""

    people: People
    llmock: LLMock
    running: Running
    traffic: list[Exchange] = field(default_factory=list)

    @property
    def owner(self) -> httpx2.AsyncClient:
        return self.people.owner

    @property
    def admin(self) -> httpx2.AsyncClient:
        return self.people.admin

    async def hear(self, reply: httpx2.Response) -> None:
        """Record an exchange. What the page says of every answer is looked at here."""
        if "unheard" in reply.request.extensions:
            return
        await reply.aread()
        assert reply.headers["server-timing"].startswith("total;dur=")
        assert reply.headers["x-request-id"]
        assert reply.headers.get("access-control-allow-origin") != "*"
        self.traffic.append(Exchange(reply.request, reply))

    def of(self, call: Call, calls: list[Call]) -> list[Exchange]:
        """The traffic of a call: what fits it better than any other call of the page."""
        return [
            one for one in self.traffic if call.fits(*_line(one)) and call == max(_fitting(one, calls), key=_literals)
        ]

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Record what the people send within the block."""
        clients = [self.people.admin, self.people.owner, self.people.other, self.people.anonymous]
        for client in clients:
            client.event_hooks = {"response": [self.hear]}
        try:
            yield
        finally:
            for client in clients:
                client.event_hooks = {}


def _line(exchange: Exchange) -> tuple[str, str]:
    return exchange.request.method, exchange.request.url.path


def _fitting(exchange: Exchange, calls: list[Call]) -> list[Call]:
    return [call for call in calls if call.fits(*_line(exchange))]


def _literals(call: Call) -> int:
    return call.literals


def _values(text: str) -> Iterator[Any]:
    """What can be read as JSON: the whole, or the lines of an event stream or of ndjson."""
    try:
        yield json.loads(text)
    except ValueError:
        for line in text.splitlines():
            try:
                yield json.loads(line.removeprefix("data: "))
            except ValueError:
                continue


def _names(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from value
    for one in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _names(one)
