"""One turn as a client insists on it: sent, dropped, resumed, cancelled, seen to its end."""

import asyncio
import random
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from torture.exchanges import NEVER, Drop, Exchanges, Heard, Person
from torture.ledgers import Ledger
from torture.plan import dice

# A tag is a number that nobody else would send as `max_tokens`.
FIRST_TAG = 1_000_001
PATIENCE_SECONDS = 40.0
REFUSALS = frozenset({400, 401, 403, 404, 409, 413, 415, 422})


@dataclass(slots=True)
class Score:
    """What the client has seen so far."""

    asked: int = 0
    accepted: int = 0


@dataclass(frozen=True, slots=True)
class Ask:
    """A turn that is to happen once, whatever happens to its requests."""

    tag: int
    person: Person
    path: str
    body: dict[str, Any]
    conversation: int | None = None

    @property
    def key(self) -> str:
        return f"key-{self.tag}"


@dataclass(slots=True)
class Learnt:
    """What the client knows of a turn after all it did."""

    completion: int | None = None
    conversation: int | None = None
    message: int | None = None
    refused: str = ""
    over: bool = False
    last: int | None = None
    heard: list[Heard] = field(default_factory=list)

    def add(self, heard: Heard) -> None:
        self.heard.append(heard)
        names = heard.first or heard.body
        self.completion = self.completion or heard.completion
        self.conversation = names.get("conversation_id") or self.conversation
        self.message = names.get("message_id") or self.message
        self.over = self.over or heard.over
        if heard.last is not None:
            self.last = max(self.last or 0, heard.last)
        if heard.status in REFUSALS and heard.completion is None:
            self.refused = str(heard.body.get("code") or heard.status)


class Asker:
    """Makes asks and gets them answered."""

    def __init__(self, seed: int, exchanges: Exchanges, ledger: Ledger) -> None:
        self.score = Score()
        self.exchanges = exchanges
        self._seed = seed
        self._ledger = ledger
        self._tags = count(FIRST_TAG)

    async def ask(self, person: Person, path: str, body: dict[str, Any], *, where: int | None = None) -> Learnt:
        """Send a turn with a question of its own, and stay with it or leave, as chance has it."""
        tag = next(self._tags)
        body = {**body, "max_tokens": tag}
        question = None
        if "regenerate" not in path:
            question = _question(tag)
            body |= {"content": question} if where else {"messages": [{"role": "user", "content": question}]}
        ask = Ask(tag, person, path, body, where)
        chance = dice(self._seed, "ask", tag)
        self.score.asked += 1
        facts = {"tag": tag, "person": person.id, "path": path, "body": body, "question": question}
        self._ledger.write("ask", key=ask.key, conversation=where, **facts)
        learnt = Learnt()
        cancelling = asyncio.create_task(self._cancel(ask, learnt, chance)) if chance.random() < 0.06 else None
        await self._insist(ask, learnt, chance)
        if cancelling:
            await cancelling
        if learnt.completion:
            self.score.accepted += 1
        return learnt

    async def _insist(self, ask: Ask, learnt: Learnt, chance: random.Random) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + PATIENCE_SECONDS
        at_once = chance.choices((1, 2, 4, 8), (82, 12, 4, 2))[0]
        drops = [_drop(chance) for _ in range(at_once)]
        for heard in await asyncio.gather(*(self._send(ask, drop) for drop in drops)):
            learnt.add(heard)
        leaves = chance.random() < 0.04
        while not learnt.over and not (leaves and learnt.completion) and loop.time() < deadline:
            if learnt.refused and learnt.refused != "conversation_busy":
                return
            learnt.refused = ""
            learnt.add(await self._go_on(ask, learnt, chance))
            if not learnt.over:
                await asyncio.sleep(chance.uniform(0.05, 0.4))

    async def _send(self, ask: Ask, drop: Drop) -> Heard:
        return await self.exchanges.post(ask.person, ask.path, ask.body, drop=drop, key=ask.key, tag=ask.tag)

    async def _go_on(self, ask: Ask, learnt: Learnt, chance: random.Random) -> Heard:
        """Take up a turn whose end was not heard: by its key, or by its number in one of several ways."""
        drop = _drop(chance) if chance.random() < 0.3 else NEVER
        if learnt.completion is None or chance.random() < 0.25:
            return await self._send(ask, drop)
        path = f"/completions/{learnt.completion}"
        facts: dict[str, Any] = {"tag": ask.tag, "resumed": learnt.completion}
        way = chance.choice(("after", "header", "start", "record"))
        get = self.exchanges.get
        if way == "record":
            heard = await get(ask.person, path, tag=ask.tag)
            learnt.over = heard.body.get("finished_at") is not None
            return heard if learnt.over else Heard(heard.status, heard.ended, b"", learnt.completion, streamed=True)
        if learnt.last is None or way == "start":
            return await get(ask.person, f"{path}/stream", drop=drop, **facts)
        if way == "after":
            return await get(ask.person, f"{path}/stream?starting_after={learnt.last}", drop=drop, **facts)
        headers = {"Last-Event-ID": f"{learnt.completion}:{learnt.last}"}
        return await get(ask.person, f"{path}/stream", drop=drop, headers=headers, after=learnt.last, **facts)

    async def _cancel(self, ask: Ask, learnt: Learnt, chance: random.Random) -> None:
        """Cancel it at some moment, once its number is known."""
        await asyncio.sleep(chance.uniform(0.02, 0.8))
        if learnt.completion:
            path = f"/completions/{learnt.completion}/cancel"
            await self.exchanges.post(ask.person, path, None, cancels=learnt.completion)


def _question(tag: int) -> str:
    return f"What is q{tag}?"


def _drop(chance: random.Random) -> Drop:
    """Mostly the client stays; else it hangs up after some events or some time, or reads slowly."""
    kind = chance.choices(("stay", "events", "seconds", "slow"), (72, 14, 10, 4))[0]
    if kind == "events":
        return Drop(events=chance.randint(0, 8))
    if kind == "seconds":
        return Drop(seconds=chance.uniform(0.001, 1.0))
    return Drop(slow=0.05) if kind == "slow" else NEVER
