"""A turn's rows: begins, journalled events and finishes of many turns, written together."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

from sqlalchemy import Connection, select
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.engine import together
from service.db.recordset import encode
from service.db.tables import completions
from service.domain.quotas import read_allowances
from service.repositories.comparisons import pass_over
from service.repositories.limits import HOLD_SECONDS, Verdict, hold_in_turn
from service.repositories.turn_statements import APPEND, BEGIN, FINISH, HELD, combined, statements

Row = Mapping[str, Any]
Name = tuple[int, int]


class Begin(NamedTuple):
    """The rows of an accepted turn. Their ids are known, so writing them twice changes nothing.

    A turn that waits for another one has no `attempt` yet; `claim` is there where it came with an idempotency key,
    `hold` where it falls under limits.
    """

    conversation: Row | None
    moved: Row | None
    messages: Sequence[Row]
    completion: Row
    attempt: Row | None
    claim: Row | None = None
    hold: Row | None = None

    @property
    def name(self) -> Name:
        """The completion's (user_id, id)."""
        return self.completion["user_id"], self.completion["id"]


class Finish(NamedTuple):
    """The end of a turn. Only the first one with the right epoch is written; `entry` is never lost.

    A turn that is not to be stored has no answer; one that never ran has no attempt and no entry. `passed` is there
    where a compared one says nothing: see `comparisons.pass_over`.
    """

    outcome: Row
    answer: Row | None
    attempt: Row | None
    events: Row
    entry: Row | None
    passed: Row | None = None

    @property
    def name(self) -> Name:
        """The completion's (user_id, id)."""
        return self.outcome["user_id"], self.outcome["id"]


class Flush(NamedTuple):
    """What is written in one transaction. `appends` are rows of events with the epoch of their writer."""

    begins: Sequence[Begin]
    appends: Sequence[Row]
    finishes: Sequence[Finish]

    def lists(self) -> dict[str, list[Row]]:
        """The rows by the list that a statement takes, in the order of their dependence.

        A begin brings all its lists, empty ones too, and so does a finish: there are few different statements then.
        """
        rows: dict[str, list[Row]] = {}
        if any(one.hold for one in self.begins):
            rows["holds"] = [one.hold for one in self.begins if one.hold]
        if self.begins:
            rows |= self._begun()
        if self.appends:
            rows["events"] = list(self.appends)
        if self.finishes:
            rows["outcomes"] = [one.outcome for one in self.finishes]
            rows["answers"] = [one.answer for one in self.finishes if one.answer]
            rows["tails"] = [one.events for one in self.finishes]
            rows["ends"] = [one.attempt for one in self.finishes if one.attempt]
            rows["entries"] = [one.entry for one in self.finishes if one.entry]
            rows["settled"] = [_name_of(one) for one in self.finishes]
        if passed := [one.passed for one in self.finishes if one.passed]:
            rows["passed"] = passed
        return rows

    def _begun(self) -> dict[str, list[Row]]:
        """Each row with the `turn` that it belongs to, where one of them may be refused."""
        begins = [_marked(one) for one in self.begins] if any(one.hold for one in self.begins) else self.begins
        return {
            "conversations": [one.conversation for one in begins if one.conversation],
            "moved": _merged([one.moved for one in begins if one.moved]),
            "messages": [row for one in begins for row in one.messages],
            "completions": [one.completion for one in begins],
            "attempts": [one.attempt for one in begins if one.attempt],
            "claims": [one.claim for one in begins if one.claim],
        }


class Written(NamedTuple):
    """What a flush achieved: the completions that it finished, those whose events it journalled, and what limits said
    to those that it was to begin."""

    finished: set[Name]
    journalled: set[Name]
    holds: dict[Name, Verdict]


async def write_at_once(connection: AsyncConnection, flush: Flush, lease_seconds: float) -> Written:
    """Write a flush as one Postgres statement, which is atomic by itself. See `write_in_turn`."""
    lists = flush.lists()
    passed = lists.pop("passed", None)
    if passed is None:
        return await _run_combined(connection, lists, lease_seconds)
    # No statement sees what its own parts write, nor may two of them change the same conversation.
    async with together(connection):
        written = await _run_combined(connection, lists, lease_seconds)
        await pass_over(connection, passed)
    return written


async def warm_up(connection: AsyncConnection) -> None:
    """Have the statements of every kind of flush compiled here and prepared by Postgres, before somebody waits."""
    for kinds in product((BEGIN, HELD, ()), (APPEND, ()), (FINISH, ())):
        if any(kinds):
            await _run_combined(connection, {name: () for kind in kinds for name in kind}, 0)


async def _run_combined(
    connection: AsyncConnection, lists: Mapping[str, Sequence[Row]], lease_seconds: float
) -> Written:
    values: dict[str, Any] = {name: encode(rows) for name, rows in lists.items()}
    if "completions" in lists:
        values["lease_seconds"] = lease_seconds
    if "holds" in lists:
        values["hold_seconds"] = HOLD_SECONDS
    written = Written(set(), set(), {})
    for told, *name, refused, allowances in await connection.execute(combined(tuple(lists)), values):
        if told == "holds":
            written.holds[name[0], name[1]] = Verdict(refused, read_allowances(allowances))
        else:
            (written.finished if told == "outcomes" else written.journalled).add((name[0], name[1]))
    return written


def write_in_turn(connection: Connection, flush: Flush, lease_seconds: float) -> Written:
    """Write a flush, a statement for each table, in one transaction.

    A turn that was finished before, or whose epoch is over, changes nothing. A turn whose completion was erased
    meanwhile is still accounted. Raises IntegrityError when a message's place in its conversation is taken.
    """
    made = statements(connection.dialect.name)
    written = Written(set(), set(), {one.name: hold_in_turn(connection, one.hold) for one in flush.begins if one.hold})
    refused = {name for name, verdict in written.holds.items() if verdict.refused}
    begins = [one._replace(hold=None) for one in flush.begins if one.name not in refused]
    _run(connection, Flush(begins, (), ()).lists(), lease_seconds)
    if flush.appends:
        written.journalled.update(_names(connection, made["events"], {"events": encode(flush.appends)}))
    if not flush.finishes:
        return written
    outcomes = encode([one.outcome for one in flush.finishes])
    written.finished.update(_names(connection, made["outcomes"], {"outcomes": outcomes}))
    mine = [one for one in flush.finishes if one.name in written.finished]
    others = [one for one in flush.finishes if one.name not in written.finished]
    lists = Flush((), (), mine).lists()
    lists.pop("outcomes", None)
    erased = [one for one in others if not _exists(connection, one.name)]
    lists["entries"] = [one.entry for one in (*mine, *erased) if one.entry]
    lists["settled"] = [_name_of(one) for one in (*mine, *erased)]
    _run(connection, lists, lease_seconds)
    return written


async def find_held(connection: AsyncConnection, name: Name, epoch: int) -> bool:
    """Whether a completion still runs under this epoch."""
    mine = (completions.c.user_id == name[0], completions.c.id == name[1], completions.c.epoch == epoch)
    query = select(completions.c.id).where(*mine, completions.c.finished_at.is_(None))
    return (await connection.execute(query)).first() is not None


async def renew_leases(connection: AsyncConnection, held: Sequence[Row], lease_seconds: float) -> set[Name]:
    """Hold on to running turns (user_id, id, epoch) for so many seconds more; return those that are still held."""
    values = {"renewals": encode(held), "lease_seconds": lease_seconds}
    result = await connection.execute(statements(connection.dialect.name)["renewals"], values)
    return {(row[0], row[1]) for row in result}


def _merged(moves: Sequence[Row]) -> list[Row]:
    """One row for each conversation, the last leaf and all messages: an UPDATE takes a row of the other side once."""
    merged: dict[Name, Row] = {}
    for move in moves:
        name = move["user_id"], move["id"]
        before = merged[name]["message_count"] if name in merged else 0
        merged[name] = {**move, "message_count": before + move["message_count"]}
    return list(merged.values())


def _marked(begin: Begin) -> Begin:
    """The begin with its completion's id in each of its rows."""
    mark = {"turn": begin.completion["id"]}

    def marked(row: Row | None) -> Row | None:
        return None if row is None else {**row, **mark}

    return begin._replace(
        conversation=marked(begin.conversation),
        moved=marked(begin.moved),
        messages=[{**row, **mark} for row in begin.messages],
        completion={**begin.completion, **mark},
        attempt=marked(begin.attempt),
        claim=marked(begin.claim),
    )


def _name_of(finish: Finish) -> Row:
    return {"user_id": finish.name[0], "completion_id": finish.name[1]}


def _names(connection: Connection, statement: Any, values: dict[str, Any]) -> set[Name]:
    return {(row[0], row[1]) for row in connection.execute(statement, values)}


def _run(connection: Connection, lists: Mapping[str, Sequence[Row]], lease_seconds: float) -> None:
    made = statements(connection.dialect.name)
    for name, rows in lists.items():
        lease = {"lease_seconds": lease_seconds} if name == "completions" else {}
        if rows:
            connection.execute(made[name], {name: encode(rows), **lease})


def _exists(connection: Connection, name: Name) -> bool:
    query = select(completions.c.id).where(completions.c.user_id == name[0], completions.c.id == name[1])
    return (connection.execute(query)).first() is not None
