"""Every state of a turn and everything that can happen to it: the table of docs/durability.md, played."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from service.domain.tree import Position
from service.providers.base import Ending
from service.turns.ending import End, close_turn
from service.turns.live import Live
from service.turns.opening import Branch
from service.turns.recovery import Recovery
from tests.turns.house import ENDING, FAILURE, House, open_house

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "durability.md"
LAPSE = "UPDATE completions SET lease_expires_at = {} WHERE finished_at IS NULL AND id = {}"
PAST = {"sqlite": "1", "postgresql": "now() - interval '1 second'"}


def read_table() -> dict[tuple[str, str], str]:
    lines = [line for line in DOCUMENT.read_text("utf-8").split("\n") if line.startswith("| ")]
    start = next(index for index, line in enumerate(lines) if line.startswith("| state "))
    head, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines[start : start + 8])
    cells: dict[tuple[str, str], str] = {}
    for row in rows:
        state = re.sub(r"^`in_progress`, ", "", row[0]).strip("`")
        cells |= {(state, event): cell.strip("`") for event, cell in zip(head[1:], row[1:], strict=True)}
    return cells


TABLE = read_table()
HAPPENS = [pair for pair, cell in TABLE.items() if cell != "–"]


@dataclass
class Stage:
    """Two workers on one database: a turn of the first is brought into a state, and something happens to it."""

    house: House
    heir: House
    recovery: Recovery
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    before: asyncio.Event = field(default_factory=asyncio.Event)
    live: Live | None = None

    @property
    def turn(self) -> Live:
        assert self.live
        return self.live

    async def enter(self, state: str) -> None:
        """A turn in this state; an unfinished one waits at the gate."""
        script = self.house.provider.script
        if state == "queued":
            script[:] = [self.before, ENDING]
            first = await self.house.begin("First?")
            leaf = Position(first.turn.message_id or 0, first.turn.message_id or 0, 1, True)
            (row,) = await self.house.rows(f"SELECT line_id FROM messages WHERE id = {leaf.id}")
            branch = Branch(first.turn.conversation_id or 0, leaf._replace(line_id=row.line_id))
            self.live = await self.house.begin("Second?", branch=branch, waits_for=first.turn.completion_id)
            script[:] = [self.gate, ENDING]
            return
        said: dict[str, list[object]] = {
            "silent": [self.gate],
            "spoken": ["Well, ", self.gate],
            "completed": ["Yes.", ENDING],
            "incomplete": ["Ye", Ending("length")],
            "failed": [FAILURE],
            "cancelled": [self.gate],
        }
        script[:] = [*said[state], ENDING]
        self.live = await self.house.begin()
        if state == "cancelled":
            await self.house.engine.cancel(*self.turn.turn.name)
        if state in ("silent", "spoken"):
            await until(lambda: self.house.provider.calls and len(self.turn.events) >= (state == "spoken"))
        else:
            await asyncio.wait_for(self.turn.finished.wait(), 10)

    async def happen(self, event: str) -> None:
        match event:
            case "start":
                self.before.set()
                await until(lambda: len(self.house.provider.calls) == 2)
            case "answer":
                self.gate.set()
                await asyncio.wait_for(self.turn.finished.wait(), 10)
            case "failure":
                self.house.provider.failing = FAILURE
                self.gate.set()
                await asyncio.wait_for(self.turn.finished.wait(), 10)
            case "cancel":
                await self.house.engine.cancel(*self.turn.turn.name)
                await asyncio.wait_for(self.turn.finished.wait(), 10)
            case "lapse":
                await self.heir.write(LAPSE.format(PAST[self.heir.database.dialect], self.turn.turn.completion_id))
                await self.take_over()
            case "drain":
                await self.house.engine.drain(0)
                await self.take_over()
            case "late":
                late = close_turn(self.turn, End(ending=ENDING), registry=self.house.registry, pending=[])
                old = late.finish._replace(outcome={**late.finish.outcome, "epoch": 0})
                assert not await self.house.engine._journal.finish(old)

    async def take_over(self) -> None:
        """The heir looks for turns; what it adopts and finishes is finished, what it runs waits at its gate."""
        self.heir.provider.script[:] = [asyncio.Event(), ENDING]
        await self.recovery.sweep()
        ending = [live for live in self.heir.engine.lives if live.settling or live.answer]
        await asyncio.gather(*(asyncio.wait_for(live.finished.wait(), 10) for live in ending))

    async def status(self) -> str:
        (row,) = await self.heir.rows(f"SELECT status FROM completions WHERE id = {self.turn.turn.completion_id}")
        return str(row.status)


async def until(seen: Callable[[], object]) -> None:
    """What the engine does, it does within ten seconds."""
    async with asyncio.timeout(10):
        while not seen():  # noqa: ASYNC110  # nothing tells
            await asyncio.sleep(0.001)


@pytest.fixture
async def stage(database_url: str) -> AsyncIterator[Stage]:
    async with open_house(database_url) as house, open_house(database_url, people=False) as heir:
        recovery = Recovery(heir.database, heir.ids, heir.registry, heir.engine, lease_seconds=30)
        yield Stage(house, heir, recovery)


@pytest.mark.parametrize(("state", "event"), HAPPENS, ids=[f"{event} when {state}" for state, event in HAPPENS])
async def test_the_table_is_true(stage: Stage, state: str, event: str) -> None:
    await stage.enter(state)
    await stage.happen(event)
    assert await stage.status() == TABLE[state, event]
    charged = "SELECT count(*) AS entries, count(DISTINCT attempt) AS attempts FROM ledger_entries"
    (row,) = await stage.heir.rows(f"{charged} WHERE completion_id = {stage.turn.turn.completion_id}")
    assert row.entries == row.attempts


def test_the_table_has_every_pair() -> None:
    states = ("queued", "silent", "spoken", "completed", "incomplete", "failed", "cancelled")
    events = ("start", "answer", "failure", "cancel", "lapse", "drain", "late")
    assert set(TABLE) == {(state, event) for state in states for event in events}
    assert len(HAPPENS) == 33
