"""The client's requests: each is in the ledger before it is sent, and again with what came back."""

import asyncio
import json
import re
from dataclasses import dataclass
from itertools import count
from typing import Any, Literal

import aiohttp

from torture.ledgers import Ledger

EVENT_ID = re.compile(rb"^id: (\d+):(\d+)$", re.MULTILINE)
ENDS = (b"\ndata: [DONE]\n\n", b"\nevent: error\n")
# whole: to the end; cut: broken off by the other side; dropped: by this one; silent: nothing came in time.
Ended = Literal["whole", "cut", "dropped", "silent"]


@dataclass(frozen=True, slots=True)
class Person:
    """A user of the service and their key."""

    id: int
    key: str


@dataclass(frozen=True, slots=True)
class Drop:
    """When to hang up: after so many events, or so many seconds; `slow` is how long to wait between two reads."""

    events: int | None = None
    seconds: float | None = None
    slow: float = 0.0


NEVER = Drop()


@dataclass(frozen=True, slots=True)
class Heard:
    """What came back. `status` 0 is no answer."""

    status: int
    ended: Ended
    raw: bytes
    completion: int | None = None
    streamed: bool = False

    @property
    def body(self) -> dict[str, Any]:
        """The JSON object of an answer in one piece; empty where it is none."""
        try:
            found = json.loads(self.raw) if self.ended == "whole" and not self.streamed else {}
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def events(self) -> bytes:
        """The whole events of a stream."""
        return self.raw[: self.raw.rfind(b"\n\n") + 2] if self.streamed else b""

    @property
    def last(self) -> int | None:
        """The number of the last event."""
        found = EVENT_ID.findall(self.events)
        return int(found[-1][1]) if found else None

    @property
    def first(self) -> dict[str, Any]:
        """The data of the event that names the turn, where it came."""
        found = re.search(rb"^event: completion\ndata: (.*)$", self.events, re.MULTILINE)
        return json.loads(found[1]) if found else {}

    @property
    def over(self) -> bool:
        """Whether the turn's end was heard."""
        if self.streamed:
            return any(end in self.events for end in ENDS)
        went_on = self.body.get("code") == "worker_lost"
        return self.ended == "whole" and not went_on and (self.status in (200, 201) or self.completion is not None)


class Exchanges:
    """Sends requests, each over a connection of its own, so that each goes to the next worker."""

    def __init__(self, url: str, ledger: Ledger, *, patience: float = 3.0) -> None:
        self._url = url
        self._ledger = ledger
        self._patience = patience
        self._numbers = count(1)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
            timeout=aiohttp.ClientTimeout(total=None),
            auto_decompress=False,
        )

    async def close(self) -> None:
        await self._session.close()

    async def post(self, person: Person, path: str, body: Any, *, drop: Drop = NEVER, **facts: Any) -> Heard:
        """A POST; `facts` go into the ledger, `key` also into the header."""
        headers = {"Idempotency-Key": str(facts["key"])} if facts.get("key") else {}
        return await self._exchange("POST", path, person, body=body, headers=headers, drop=drop, facts=facts)

    async def get(
        self, person: Person, path: str, *, drop: Drop = NEVER, headers: dict[str, str] | None = None, **facts: Any
    ) -> Heard:
        return await self._exchange("GET", path, person, body=None, headers=headers or {}, drop=drop, facts=facts)

    async def _exchange(
        self, method: str, path: str, person: Person, *, body: Any, headers: dict[str, str], drop: Drop, facts: Any
    ) -> Heard:
        number = next(self._numbers)
        self._ledger.write("send", n=number, method=method, path=path, person=person.id, **facts)
        reading = _Reading(drop)
        try:
            async with asyncio.timeout(self._patience if drop.seconds is None else drop.seconds):
                headers = headers | {"Authorization": f"Bearer {person.key}"}
                async with self._session.request(method, self._url + path, json=body, headers=headers) as response:
                    await reading.read(response)
        except TimeoutError:
            reading.ended = "silent" if drop.seconds is None else "dropped"
        except (aiohttp.ClientError, OSError):
            reading.ended = "cut"
        heard = reading.heard()
        text = heard.raw.decode("utf-8", "replace")
        told = {"status": heard.status, "ended": heard.ended, "completion": heard.completion}
        self._ledger.write("heard", n=number, **told, streamed=heard.streamed, replayed=reading.replayed, text=text)
        return heard


class _Reading:
    """An answer that is being read."""

    def __init__(self, drop: Drop) -> None:
        self._drop = drop
        self._status = 0
        self._raw = bytearray()
        self._streamed = False
        self._completion: int | None = None
        self.replayed = False
        self.ended: Ended = "cut"

    async def read(self, response: aiohttp.ClientResponse) -> None:
        """Read to the end, or to where it is to be dropped."""
        self._status = response.status
        self._streamed = response.content_type == "text/event-stream"
        self.replayed = response.headers.get("Idempotency-Replayed") == "true"
        if named := response.headers.get("Everturn-Completion-Id"):
            self._completion = int(named)
        while data := await response.content.readany():
            self._raw += data
            if self._drop.events is not None and self._raw.count(b"\n\n") > self._drop.events:
                self.ended = "dropped"
                response.close()
                return
            if self._drop.slow:
                await asyncio.sleep(self._drop.slow)
        self.ended = "whole"

    def heard(self) -> Heard:
        heard = Heard(self._status, self.ended, bytes(self._raw), self._completion, self._streamed)
        if heard.completion is None and isinstance(named := heard.body.get("completion_id"), int):
            return Heard(heard.status, heard.ended, heard.raw, named, heard.streamed)
        return heard
