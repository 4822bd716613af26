"""The answers of a comparison, siblings after its question: which of them the conversation goes on with.

It is the first, in the order asked, that says something or may still do so; where none does, the first.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, FromClause, Select, Update, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.recordset import encode, recordset
from service.db.tables import completions, conversations, messages
from service.repositories.events import Record

# A conversation, and the answer in it that is passed over where it is the active leaf and says nothing.
PASSED = ("user_id", "id", "active_leaf_id")


async def find_preferred(connection: AsyncConnection, user_id: int, question_id: int) -> Record | None:
    """The preferred answer to a question, as (id, model); None where no models were compared by it."""
    question = messages.alias("question")
    one = _preferred(question).where(question.c.user_id == user_id, question.c.id == question_id)
    found: Record | None = (await connection.execute(one)).first()
    return found


async def pass_over(connection: AsyncConnection, passed: Sequence[Mapping[str, Any]]) -> None:
    """Have conversations go on with the preferred answer in place of one that says nothing, if that is active still.

    On Postgres, where it is to be a statement of its own: the conversations are locked first, so that it sees how the
    answers that other workers write have ended.
    """
    dialect = connection.dialect.name
    rows = recordset(dialect, "passed", *(conversations.c[name] for name in PASSED))
    same = (conversations.c.user_id == rows.c.user_id) & (conversations.c.id == rows.c.id)
    locked = select(conversations.c.id).join(rows, same).order_by(conversations.c.user_id, conversations.c.id)
    values = {"passed": encode(passed)}
    await connection.execute(locked.with_for_update(of=conversations), values)
    await connection.execute(passing(dialect), values)


def passing(dialect: str) -> Update:
    """The statement of `pass_over`."""
    rows = recordset(dialect, "passed", *(conversations.c[name] for name in PASSED))
    silent, question = messages.alias("silent"), messages.alias("question")
    best = _preferred(question).where(question.c.user_id == silent.c.user_id, question.c.id == silent.c.parent_id)
    return (
        update(conversations)
        .where(conversations.c.user_id == rows.c.user_id, conversations.c.id == rows.c.id)
        .where(conversations.c.active_leaf_id == rows.c.active_leaf_id)
        .where(silent.c.user_id == rows.c.user_id, silent.c.id == rows.c.active_leaf_id, _is_silent(silent))
        .values(
            active_leaf_id=best.with_only_columns(best.selected_columns.id).correlate(silent).scalar_subquery(),
            model=best.with_only_columns(best.selected_columns.model).correlate(silent).scalar_subquery(),
        )
    )


def _preferred(question: FromClause) -> Select[Any]:
    answer = messages.alias("answer")
    below = (answer.c.user_id == question.c.user_id) & (answer.c.parent_id == question.c.id)
    made = (completions.c.user_id == answer.c.user_id) & (completions.c.id == answer.c.completion_id)
    place = completions.c.parameters["compared"].as_integer()
    return (
        select(answer.c.id, completions.c.model)
        .select_from(question)
        .join(answer, below)
        .join(completions, made)
        .where(place.is_not(None))
        .order_by(_is_silent(answer), place, answer.c.id)
        .limit(1)
    )


def _is_silent(answer: FromClause) -> ColumnElement[bool]:
    return answer.c.status.in_(("failed", "cancelled")) & (answer.c.content == "")
