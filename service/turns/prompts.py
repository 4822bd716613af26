"""What the model of a stored turn is asked, read back from the database."""

from collections.abc import Set

from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.engine import Database
from service.domain.history import MOST_MESSAGES, Line, assemble
from service.repositories import conversations, messages
from service.repositories.events import Record
from service.turns.live import Turn
from service.turns.opening import choose


async def read_prompt(database: Database, turn: Turn) -> tuple[list[Line], tuple[str, ...]]:
    """The branch before the turn's answer as far as it fits the model's window, and warnings about what does not.

    Empty where the turn was not stored or is erased. Raises DatabaseUnavailable.
    """
    async with database.reading() as connection:
        rows = await branch_before(connection, turn)
        talk = await conversations.find_conversation(connection, turn.user_id, turn.conversation_id or 0)
    lines = assemble(map(messages.line_of, rows), talk.system_prompt if talk else None)
    return choose(lines, turn.model, turn.call.max_tokens) if rows else ([], ())


async def find_running(database: Database, turn: Turn, *, besides: Set[int] = frozenset()) -> int | None:
    """The last completion before the turn that has not ended yet, none of `besides`. Raises DatabaseUnavailable."""
    async with database.reading() as connection:
        rows = await branch_before(connection, turn)
    running = [row.completion_id for row in rows if row.status == "in_progress" and row.completion_id not in besides]
    return running[-1] if running else None


async def branch_before(connection: AsyncConnection, turn: Turn) -> list[Record]:
    """The newest messages of the branch that the turn answers, oldest of them first, as `read_branch` gives them."""
    if turn.message_id is None or turn.conversation_id is None:
        return []
    answer = await messages.find_message(connection, turn.user_id, turn.message_id)
    if answer is None or answer.parent_id is None:
        return []
    asked = await messages.find_position(connection, turn.user_id, turn.conversation_id, answer.parent_id)
    if asked is None:
        return []
    return await messages.read_branch(connection, turn.user_id, turn.conversation_id, leaf=asked, limit=MOST_MESSAGES)
