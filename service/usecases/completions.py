"""Completions as records: read what was asked and answered, and stop what runs."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.engine import Database
from service.domain.filters import CompletionFilter
from service.domain.meters import to_dollars
from service.domain.paging import Ask, Page
from service.errors import Conflict, NotFound
from service.repositories import completions as rows
from service.repositories.paging import Pager
from service.turns.engine import Engine

CANCEL_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Usage:
    """Disjoint meters, but for reasoning_tokens, which are part of output_tokens."""

    input_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    output_tokens: int
    reasoning_tokens: int


@dataclass(frozen=True, slots=True)
class Completion:
    """The record of a turn, without its text. `cost_usd` None: nobody knows a price, or it has not ended."""

    id: int
    user_id: int
    conversation_id: int | None
    message_id: int | None
    model: str
    provider: str
    temperature: float | None
    max_tokens: int | None
    parameters: dict[str, Any]
    streamed: bool
    stored: bool
    status: str
    finish_reason: str | None
    error_code: str | None
    error_detail: str | None
    warnings: list[str]
    attempt_count: int
    first_token_ms: int | None
    duration_ms: int | None
    created_at: datetime
    finished_at: datetime | None
    usage: Usage | None
    cost_usd: str | None


@dataclass(frozen=True, slots=True)
class Answered:
    """The model that answered: after a fallback not the one that was asked for."""

    model: str
    provider: str


@dataclass(frozen=True, slots=True)
class Detail:
    """A completion with its text, the attempts at it and what they were charged."""

    completion: Completion
    content: str | None
    reasoning: str | None
    attempts: list[dict[str, Any]]
    entries: list[dict[str, Any]]

    @property
    def answered_by(self) -> Answered:
        """By the last entry in the ledger."""
        last: dict[str, Any] = max(self.entries, key=lambda entry: entry["attempt"], default={})
        return Answered(last.get("model", self.completion.model), last.get("provider", self.completion.provider))


class Completions:
    def __init__(self, database: Database, pager: Pager, engine: Engine) -> None:
        self._database = database
        self._pager = pager
        self._engine = engine

    async def get(self, user_id: int | None, completion_id: int) -> Detail:
        """One completion of a user's, or for an admin (None) of anyone's. Raises NotFound."""
        async with self._database.reading() as connection:
            found = await rows.find_completion(connection, user_id, completion_id)
            if found is None:
                raise _missing(completion_id)
            row, content, reasoning = found if found[0].stored else (found[0], None, None)
            attempts = await rows.list_attempts(connection, row.user_id, completion_id)
            entries = await rows.list_entries(connection, row.user_id, completion_id)
        return Detail(
            _completion(row),
            content,
            reasoning,
            [_without_owner(one) for one in attempts],
            [_without_owner(one) for one in entries],
        )

    async def find(self, user_id: int | None, completion_id: int) -> Completion:
        """The record alone, which is little whatever was answered. Raises NotFound."""
        async with self._database.reading() as connection:
            row = await rows.find_record(connection, user_id, completion_id)
        if row is None:
            raise _missing(completion_id)
        return _completion(row)

    async def page(self, chosen: CompletionFilter, ask: Ask) -> Page[Completion]:
        """A page of completions in two statements (one by cursor). Raises BadCursor."""
        async with self._database.reading() as connection:
            page = await rows.page_completions(connection, self._pager, ask, chosen)
        return page.map(_completion)

    async def cancel(self, user_id: int | None, completion_id: int) -> Detail:
        """Stop a turn on whichever worker it runs; the record, ended unless its worker is slow to hear of it.

        One that has ended stays as it is. Raises NotFound, DatabaseUnavailable.
        """
        found = await self.find(user_id, completion_id)
        if found.finished_at is None:
            await self._engine.cancel(found.user_id, completion_id)
            with suppress(TimeoutError):
                async with asyncio.timeout(CANCEL_SECONDS):
                    await self._engine.hub.wait(found.user_id, completion_id)
        return await self.get(user_id, completion_id)

    async def erase(self, user_id: int | None, completion_id: int) -> None:
        """Remove the text of an answer, also from its message; the record and its ledger entries stay.

        Once more is no error. Raises NotFound, Conflict while it runs.
        """
        owner = (await self.find(user_id, completion_id)).user_id

        async def work(connection: AsyncConnection) -> bool:
            return await rows.erase_text(connection, owner, completion_id)

        if not await self._database.atomically(work):
            raise Conflict("The completion is still running: cancel it first.")


def _missing(completion_id: int) -> NotFound:
    return NotFound(f"There is no completion {completion_id}.")


def _completion(row: Any) -> Completion:
    found = row._mapping
    usage = None
    if found["output_tokens"] is not None:
        usage = Usage(**{one.name: found[one.name] for one in fields(Usage)})
    plain = [one.name for one in fields(Completion) if one.name not in ("usage", "cost_usd")]
    return Completion(**{name: found[name] for name in plain}, usage=usage, cost_usd=to_dollars(found["cost_nano"]))


def _without_owner(row: Any) -> dict[str, Any]:
    found = {name: value for name, value in row._mapping.items() if name not in ("user_id", "completion_id")}
    if "cost_nano" in found:
        found["cost_usd"] = to_dollars(found.pop("cost_nano"))
    return found
