"""A large history under a service that reads it: what the listings and search are measured on."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from bench.databases import Databases, Kind
from bench.load import Load
from bench.processes import BenchError, Measured, Subject, measure
from bench.report import number
from bench.rounds import Effort
from bench.seed import OTHER, History, seed
from bench.statements import count
from bench.subjects import admin_key, environment, served, user_key

COLUMNS = ("", "p50 ms", "p95 ms", "CPU ms", "statements")


@dataclass(frozen=True, slots=True)
class Library:
    """The service and what it has to show, to the one with most of it and to somebody with little."""

    kind: Kind
    service: Subject
    history: History
    other_key: str
    env: Mapping[str, str]

    def measure(self, effort: Effort, *paths: str, key: str = "", clients: int = 1) -> Measured:
        """Clients that ask for these pages again and again."""
        asked = Load(self.service.port, paths, key or self.service.key, clients=clients, seconds=effort.seconds)
        return measure(self.service, asked)

    def row(self, name: str, effort: Effort, path: str, *, key: str = "") -> tuple[tuple[str, ...], Measured]:
        """A row of the table, and what it is made of."""
        one = self.measure(effort, path, key=key)
        [statements] = count(self.env, key or self.service.key, [path])
        return (name, *cells(one), str(statements)), one

    def page(self, path: str, *, key: str = "") -> dict[str, Any]:
        """A page of a list."""
        connection = http.client.HTTPConnection("127.0.0.1", self.service.port, timeout=60)
        try:
            connection.request("GET", path, headers={"Authorization": f"Bearer {key or self.service.key}"})
            reply = connection.getresponse()
            body = reply.read()
        finally:
            connection.close()
        if reply.status != 200:
            raise BenchError(f"GET {path}: {reply.status} {body[:300]!r}")
        found: dict[str, Any] = json.loads(body)
        return found

    def cursor(self, path: str) -> str:
        """The cursor that a page gives to the next one."""
        found = self.page(path).get("next_cursor")
        if not found:
            raise BenchError(f"GET {path} gave no next_cursor")
        return str(found)


@contextmanager
def library(kind: Kind, databases: Databases, *, provider: str, messages: int, searchable: bool) -> Iterator[Library]:
    """Makes the history, `searchable` or, which is quicker, not, and serves it."""
    url = databases.new(kind, "listing")
    env = environment(url, provider, databases.directory)
    key = admin_key(env)
    history = seed(url, messages, searchable=searchable)
    other_key = user_key(env, OTHER)
    with served(env, key) as service:
        yield Library(kind, service, history, other_key, env)


def cells(one: Measured) -> tuple[str, str, str]:
    """p50, p95 and CPU of a page."""
    if not one.result.answered:
        return f"over {one.result.seconds * 1000:,.0f}", "", ""
    return number(one.result.p50), number(one.result.p95), number(one.cpu_ms)
