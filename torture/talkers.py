"""People at their keyboards: talks of several turns, crowds in one conversation, passers-by, second thoughts."""

import asyncio
import random
from typing import Any

from torture.asks import Asker, Learnt
from torture.exchanges import Person
from torture.plan import MODELS, dice

CONFLICTS = {"reject": 5, "queue": 4, "interrupt": 1, "branch": 2}
LONGEST_TALK = 7


class Talker:
    """One client that talks until it is told to stop."""

    def __init__(self, number: int, seed: int, asker: Asker, *, person: Person, over: asyncio.Event) -> None:
        self._chance = dice(seed, "talker", number)
        self._asker = asker
        self._person = person
        self._over = over
        self._forks = 0
        self._number = number

    async def talk(self) -> None:
        """One conversation after another."""
        scenes = (self._story, self._crowd, self._passer_by)
        while not self._over.is_set():
            scene = self._chance.choices(scenes, (70, 20, 10))[0]
            learnt = await scene()
            if learnt is None or learnt.completion is None:
                await asyncio.sleep(0.2)

    async def _story(self) -> Learnt:
        """A talk of some turns, one after the other."""
        first = learnt = await self._open()
        for _ in range(self._chance.randint(0, LONGEST_TALK)):
            if first.conversation is None or self._over.is_set():
                break
            learnt = await self._turn(first.conversation, {"on_conflict": self._conflict()})
            if self._chance.random() < 0.12:
                await self._reconsider(first.conversation, learnt)
        return learnt

    async def _crowd(self) -> Learnt:
        """Several at once in one conversation, each with an idea of its own of what is to become of the others."""
        first = await self._open()
        if first.conversation is None:
            return first
        for _ in range(self._chance.randint(1, 2)):
            many = self._chance.randint(2, 6)
            asks = [self._turn(first.conversation, {"on_conflict": self._conflict()}) for _ in range(many)]
            await asyncio.gather(*asks)
        return first

    async def _passer_by(self) -> Learnt:
        """One question of which nothing is to be kept."""
        return await self._asker.ask(self._person, "/chat/completions", self._manner() | {"store": False})

    async def _open(self) -> Learnt:
        body = self._manner()
        path = "/chat/completions"
        if body.pop("stream"):
            path = self._chance.choice(("/chat/completions/stream", "/chat/completions"))
            body |= {"stream": True} if path == "/chat/completions" else {}
        return await self._asker.ask(self._person, path, body)

    async def _turn(self, conversation: int, more: dict[str, Any]) -> Learnt:
        path = f"/conversations/{conversation}/completions"
        return await self._asker.ask(self._person, path, self._manner() | more, where=conversation)

    async def _reconsider(self, conversation: int, last: Learnt) -> None:
        """Ask again, answer another place, or go on in a copy."""
        way = self._chance.choice(("beside", "regenerate", "fork", "activate"))
        if way == "beside" and last.message:
            await self._turn(conversation, {"parent_id": last.message})
            await self._turn(conversation, {"parent_id": last.message})
        elif way == "regenerate" and last.message:
            path = f"/conversations/{conversation}/regenerate"
            body = {"message_id": last.message} if self._chance.random() < 0.5 else {}
            await self._asker.ask(self._person, path, self._manner() | body, where=conversation)
        elif way == "fork":
            await self._fork(conversation)
        elif way == "activate" and last.message:
            path = f"/conversations/{conversation}/activate"
            await self._asker.exchanges.post(self._person, path, {"message_id": last.message})

    async def _fork(self, conversation: int) -> None:
        self._forks += 1
        title = f"fork {self._number}.{self._forks}"
        path = f"/conversations/{conversation}/fork"
        heard = await self._asker.exchanges.post(self._person, path, {"title": title}, key=title, forks=title)
        if isinstance(copy := heard.body.get("id"), int):
            await self._turn(copy, {})

    def _manner(self) -> dict[str, Any]:
        chance: random.Random = self._chance
        model, other = chance.sample(MODELS, 2)
        manner = {"model": model.id, "stream": chance.random() < 0.75, "temperature": chance.choice((0, 0.5))}
        return manner | ({"fallbacks": [other.id]} if chance.random() < 0.15 else {})

    def _conflict(self) -> str:
        return self._chance.choices(list(CONFLICTS), list(CONFLICTS.values()))[0]
