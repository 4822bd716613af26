"""The provider: a server on both wires that misbehaves by the seed, and keeps a ledger of every call.

`python -m torture.provider PORT SEED LEDGER`. Whom it answers is told by the key: each worker has one of its own. A
question is told by its word `q<tag>`, and the turn by the tag that its caller gave as `max_tokens`.
"""

import asyncio
import json
import re
import sys
from collections import Counter
from itertools import count
from pathlib import Path
from typing import Any

from torture.ledgers import Ledger
from torture.modes import BY_NAME, Mode, choose
from torture.plan import MODELS, dice
from torture.scripts import HungUp, Line, Told, perform
from torture.wires import Count, Speech, Wire

FORCED = re.compile(r"\bmode:(\w+)")
WIRES = {path: Wire(name) for path, name in (("/chat/completions", "openai"), ("/messages", "anthropic"))}
ABSURD = 10**12
# Where the nemesis asks whose calls are open now.
OPEN = "/open"


class Provider:
    """Answers calls; `seed` decides how."""

    def __init__(self, seed: int, ledger: Ledger) -> None:
        self._seed = seed
        self._ledger = ledger
        self._calls = count(1)
        self._seen: dict[int, int] = {}
        self._lines: set[asyncio.Task[Any]] = set()
        self._open: Counter[str] = Counter()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, request after request."""
        line, task = Line(reader, writer), asyncio.current_task()
        assert task
        self._lines.add(task)
        task.add_done_callback(self._lines.discard)
        try:
            while await self._answer(line):
                pass
        except (HungUp, ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def settle(self) -> None:
        """Return when nobody is connected any more, so that the ledger is complete."""
        await asyncio.gather(*self._lines)

    async def _answer(self, line: Line) -> bool:
        """Answer one request; False where the connection is not to be used again."""
        head = (await line.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        length = re.search(r"(?im)^content-length: *(\d+)", head)
        body = await line.reader.readexactly(int(length[1]) if length else 0)
        path = head.split(" ")[1].partition("?")[0]
        if path == OPEN:
            await line.reply(200, +self._open)
            return True
        wire = next((wire for end, wire in WIRES.items() if path.endswith(end)), None)
        if wire is None:
            names = sorted({model.name for model in MODELS if f"/{model.provider}/" in path})
            await line.reply(200, {"data": [{"id": name} for name in names]})
            return True
        return await self._call(line, wire, Asked(head, json.loads(body)))

    async def _call(self, line: Line, wire: Wire, asked: "Asked") -> bool:
        number = next(self._calls)
        nth = self._seen[asked.tag] = self._seen.get(asked.tag, 0) + 1
        forced = FORCED.search(asked.question)
        mode = BY_NAME[forced[1]] if forced else choose(self._seed, asked.tag, nth)
        self._ledger.write("call", call=number, mode=mode.name, **asked.facts())
        told = Told()
        self._open[asked.worker] += 1
        try:
            return await perform(
                line, wire, speech(mode, self._seed, number), mode=mode, stream=asked.stream, told=told
            )
        finally:
            self._open[asked.worker] -= 1
            self._ledger.write("end", call=number, **told.facts())


class Asked:
    """What a request says."""

    def __init__(self, head: str, body: dict[str, Any]) -> None:
        key = re.search(r"(?im)^(?:authorization: *bearer|x-api-key:) *(\S+)", head)
        self.worker = key[1] if key else ""
        self.stream = bool(body.get("stream"))
        self.tag = int(body.get("max_tokens") or body.get("max_completion_tokens") or 0)
        self.body = body

    @property
    def question(self) -> str:
        return str(self.body["messages"][-1]["content"])

    def facts(self) -> dict[str, Any]:
        prompt = [[message["role"], message["content"]] for message in self.body["messages"]]
        if system := self.body.get("system"):
            prompt.insert(0, ["system", system])
        told = {name: self.body.get(name) for name in ("model", "temperature", "top_p")}
        return {"worker": self.worker, "tag": self.tag, "stream": self.stream, "prompt": prompt, **told}


def speech(mode: Mode, seed: int, number: int) -> Speech:
    """What the n-th call is answered, where its mode lets it."""
    chance = dice(seed, "speech", number)
    words = chance.randint(*mode.words)
    output = min(words, 100_000) + chance.randint(0, 9)
    used = Count(
        chance.randint(1, 3000), chance.randint(0, 500), chance.randint(0, 300), output, chance.randint(0, output)
    )
    first = Count(used.input, used.read, used.written, output - 1, 0) if mode.usage == "twice" and output else None
    counts = {"none": None, "absurd": Count(ABSURD, 0, 0, ABSURD, 0)}
    told = counts.get(mode.usage, used)
    return Speech(f"w{number}", words, mode.finish, told, first, mode.thinks, mode.dirty)


async def main() -> None:
    """Serve until the process is ended."""
    port, seed, path = sys.argv[1:]
    provider = Provider(int(seed), Ledger(Path(path)))
    async with await asyncio.start_server(provider.serve, "127.0.0.1", int(port), limit=2**22, backlog=1024) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
