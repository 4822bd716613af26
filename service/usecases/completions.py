"""Completions: have a model answer, and read what was answered."""

from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.engine import Database
from service.domain.filters import CompletionFilter
from service.domain.history import MOST_MESSAGES, Line, assemble, fit, window_for
from service.domain.meters import to_dollars
from service.domain.paging import Ask, Page
from service.domain.titles import title_of
from service.errors import Conflict, ConversationBusy, NotFound, Unprocessable
from service.providers.base import Model
from service.providers.registry import Registry
from service.repositories import completions as rows
from service.repositories import conversations, messages
from service.repositories.paging import Pager
from service.turns.engine import Engine
from service.turns.live import Live
from service.turns.opening import Branch, Opening, Sampling

ANY_SAMPLING = Sampling()


@dataclass(frozen=True, slots=True)
class Request:
    """A turn that is asked for. Without a conversation a new one is made, unless `stored` is off.

    `model` None is the conversation's, or the default one. `parent_id` None is the active leaf.
    """

    user_id: int
    key_id: int
    lines: tuple[Line, ...]
    model: str | None = None
    conversation_id: int | None = None
    parent_id: int | None = None
    sampling: Sampling = ANY_SAMPLING
    streamed: bool = False
    stored: bool = True


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
class Detail:
    """A completion with its text, the attempts at it and what they were charged."""

    completion: Completion
    content: str | None
    reasoning: str | None
    attempts: list[dict[str, Any]]
    entries: list[dict[str, Any]]


class Completions:
    def __init__(self, database: Database, pager: Pager, registry: Registry, engine: Engine) -> None:
        self._database = database
        self._pager = pager
        self._registry = registry
        self._engine = engine

    async def begin(self, request: Request) -> Live:
        """Accept a turn and start it; it runs to its end whatever becomes of the caller.

        Raises UnknownModel, NotFound for the conversation or the parent, ConversationBusy, Conflict, Unavailable.
        """
        try:
            return await self._engine.begin(await self._open(request))
        except ConversationBusy:
            raise
        except Conflict:
            if request.parent_id is None:
                raise
        # The parent was answered between the look and the write: now it is seen, and the turn becomes a sibling.
        return await self._engine.begin(await self._open(request))

    async def get(self, user_id: int | None, completion_id: int) -> Detail:
        """One completion of a user's, or for an admin (None) of anyone's. Raises NotFound."""
        async with self._database.reading() as connection:
            found = await rows.find_completion(connection, user_id, completion_id)
            if found is None:
                raise NotFound(f"There is no completion {completion_id}.")
            row, content, reasoning = found
            attempts = await rows.list_attempts(connection, row.user_id, completion_id)
            entries = await rows.list_entries(connection, row.user_id, completion_id)
        return Detail(
            _completion(row),
            content,
            reasoning,
            [_without_owner(one) for one in attempts],
            [_without_owner(one) for one in entries],
        )

    async def page(self, chosen: CompletionFilter, ask: Ask) -> Page[Completion]:
        """A page of completions in two statements (one by cursor). Raises BadCursor."""
        async with self._database.reading() as connection:
            page = await rows.page_completions(connection, self._pager, ask, chosen)
        return page.map(_completion)

    async def _open(self, request: Request) -> Opening:
        if request.conversation_id is None:
            return self._opening(request, await self._model(request.model), request.lines, None)
        if not request.stored:
            raise Unprocessable("A completion in a conversation is always stored.", loc=("body", "store"))
        conversation_id = request.conversation_id
        async with self._database.reading() as connection:
            talk = await conversations.find_conversation(connection, request.user_id, conversation_id)
            if talk is None:
                raise NotFound(f"There is no conversation {conversation_id}.")
            leaf_id = talk.active_leaf_id if request.parent_id is None else request.parent_id
            if leaf_id is None:
                position, history = None, []
            else:
                position = await messages.find_position(connection, request.user_id, conversation_id, leaf_id)
                if position is None:
                    raise NotFound(f"There is no message {leaf_id} in conversation {conversation_id}.")
                if request.parent_id is None and not position.tip:
                    await self._check_leaf(connection, request, leaf_id)
                history = await messages.read_branch(
                    connection, request.user_id, conversation_id, leaf=position, limit=MOST_MESSAGES
                )
        if any(row.status == "in_progress" for row in history):
            raise ConversationBusy(
                "The conversation is being answered: wait for the answer, or send after another `parent_id`."
            )
        before = assemble((Line(row.role, row.content) for row in history), talk.system_prompt)
        model = await self._model(request.model or talk.model)
        return self._opening(request, model, (*before, *request.lines), Branch(conversation_id, position))

    async def _check_leaf(self, connection: AsyncConnection, request: Request, leaf_id: int) -> None:
        """Raises Conflict where the leaf moved while it was read: it was followed, and that was not to be a branch."""
        talk = await conversations.find_conversation(connection, request.user_id, request.conversation_id or 0)
        if talk is None or talk.active_leaf_id != leaf_id:
            raise Conflict("The conversation changed meanwhile; read it and send again.")

    def _opening(self, request: Request, model: Model, lines: tuple[Line, ...], branch: Branch | None) -> Opening:
        prompt, dropped = fit(lines, window_for(model.max_tokens, request.sampling.max_tokens))
        note = f"The {dropped} oldest messages do not fit the model's window and were left out."
        return Opening(
            user_id=request.user_id,
            key_id=request.key_id,
            model=model,
            lines=request.lines,
            prompt=tuple(prompt),
            sampling=request.sampling,
            streamed=request.streamed,
            stored=request.stored,
            branch=branch,
            title=title_of(request.lines),
            warnings=(note,) if dropped else (),
        )

    async def _model(self, name: str | None) -> Model:
        return await self._registry.find_model(name) if name else self._registry.default_model()


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
