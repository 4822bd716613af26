"""Titles by a model: after a conversation's first answer, in the background, and only where nobody has named it."""

import asyncio
import logging
from dataclasses import dataclass

from sqlalchemy.exc import DBAPIError

from service.db.engine import Database
from service.domain.history import Line
from service.domain.tasks import end
from service.domain.titles import tidy, title_key, title_of
from service.errors import EverturnError
from service.providers.registry import Registry
from service.repositories import conversations, messages
from service.repositories.completions import is_first_answer
from service.turns.engine import Engine
from service.turns.live import Live, Turn
from service.turns.opening import Opening, Sampling
from service.turns.prompts import branch_before

log = logging.getLogger(__name__)

# A first turn has hardly more than a system prompt, a question and what was said before by hand.
MOST_LINES = 8
MOST_CHARS = 2000
# Reasoning takes some of them.
ANSWER_TOKENS = 60
ANSWER_SECONDS = 30.0
AT_ONCE = 4
MOST_WAITING = 100
INSTRUCTION = (
    "Write a title for the conversation that the user quotes: at most six words, in the language of the conversation,"
    " on one line, without quotation marks and without a full stop. Answer with the title alone."
)


@dataclass(frozen=True, slots=True)
class _Untitled:
    """A conversation that has the `automatic` title, and how it began."""

    automatic: str | None
    question: str


class Titles:
    """Asks one model for titles, as turns of the users' own that are not stored: each is an attempt with its ledger
    entry, falls under their limits, and is ended by the recovery where its worker is lost. Best effort: whatever goes
    wrong, the conversation keeps the title that it has.
    """

    def __init__(self, database: Database, engine: Engine, registry: Registry, model: str | None) -> None:
        self._database = database
        self._engine = engine
        self._registry = registry
        self._model = model
        self._tasks: set[asyncio.Task[None]] = set()
        self._room = asyncio.Semaphore(AT_ONCE)

    def start(self) -> None:
        if self._model:
            self._engine.answered = self.consider

    async def stop(self) -> None:
        self._engine.answered = None
        await end(*self._tasks)

    def consider(self, live: Live) -> None:
        """Name the conversation of a turn that has ended, in the background, if this was its first answer."""
        turn, status = live.turn, live.outcome and live.outcome["status"]
        if turn.message_id is None or status not in ("completed", "incomplete") or not live.answer.content:
            return
        if len(turn.call.messages) > MOST_LINES or len(self._tasks) >= MOST_WAITING:
            return
        task = asyncio.create_task(self._name(turn, live.answer.content), name=f"title-{turn.conversation_id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _name(self, turn: Turn, answer: str) -> None:
        try:
            async with self._room:
                found = await self._find(turn)
                if found and (title := await self._ask(turn, found.question, answer)):
                    await self._rename(turn, found.automatic, title)
        except (EverturnError, DBAPIError) as error:
            log.info("a conversation keeps its first title: %s", getattr(error, "code", type(error).__name__))

    async def _find(self, turn: Turn) -> _Untitled | None:
        """None where this is not the first answer, or somebody gave the conversation another title."""
        assert turn.conversation_id is not None
        async with self._database.reading() as connection:
            if not await is_first_answer(connection, *turn.name, turn.conversation_id):
                return None
            rows = await branch_before(connection, turn)
            talk = await conversations.find_conversation(connection, turn.user_id, turn.conversation_id)
        lines = [messages.line_of(row) for row in rows]
        asked = next((line.content for line in reversed(lines) if line.role == "user" and line.content.strip()), None)
        automatic = title_of(lines)
        return _Untitled(automatic, asked) if asked and talk and talk.title == automatic else None

    async def _ask(self, turn: Turn, question: str, answer: str) -> str | None:
        """What the model proposes. Raises EverturnError."""
        assert self._model, "otherwise nothing is considered"
        model = await self._registry.find_model(self._model)
        quoted = f"<user>\n{question[:MOST_CHARS]}\n</user>\n<assistant>\n{answer[:MOST_CHARS]}\n</assistant>"
        live = await self._engine.begin(
            Opening(
                user_id=turn.user_id,
                key_id=turn.key_id,
                model=model,
                lines=(),
                prompt=(Line("system", INSTRUCTION), Line("user", quoted)),
                sampling=Sampling(max_tokens=ANSWER_TOKENS),
                streamed=False,
                stored=False,
                purpose="title",
            )
        )
        try:
            await asyncio.wait_for(live.finished.wait(), ANSWER_SECONDS)
        except TimeoutError:
            await self._engine.cancel(*live.turn.name)
            return None
        return tidy(live.answer.content) if live.outcome and live.outcome["status"] == "completed" else None

    async def _rename(self, turn: Turn, before: str | None, title: str) -> None:
        values = {"title": title, "title_key": title_key(title)}
        async with self._database.transaction() as connection:
            await conversations.rename_untouched(connection, turn.user_id, turn.conversation_id or 0, before, values)
