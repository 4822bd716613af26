"""A provider on OpenAI's wire that answers each question as a plan says, and keeps every prompt that it got."""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from secrets import token_hex
from typing import Any

from tests.patience import until

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\nconnection: close\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Failure:
    """An answer that is an error; the status 0 cuts the connection instead."""

    status: int = 503
    retry_after: str | None = None


@dataclass(slots=True)
class Call:
    """A request that came: when, and whether the caller left before the end of its answer."""

    model: str
    messages: list[tuple[str, Any]]
    at: float
    left: bool = False


@dataclass(eq=False)
class Plan:
    """What is answered to a question: `failures` to the first calls, then `words`, one each `pace` seconds.

    Of a stream's words the first `thoughts` are reasoning. After `hold_after` words it waits for `go`. A model in
    `down` always fails.
    """

    question: str
    words: int = 5
    thoughts: int = 0
    pace: float = 0.0
    hold_after: int | None = None
    failures: tuple[Failure, ...] = ()
    down: frozenset[str] = frozenset()
    calls: list[Call] = field(default_factory=list)
    loop: asyncio.AbstractEventLoop | None = None
    going: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def answer(self) -> str:
        """The whole answer."""
        return "".join(self.word(number) for number in range(self.words))

    def word(self, number: int) -> str:
        return f"{self.question}:{number} "

    def go(self) -> None:
        """End the wait."""
        assert self.loop, "a plan is made by its provider"
        self.loop.call_soon_threadsafe(self.going.set)

    async def asked(self, times: int = 1) -> list[Call]:
        """The calls, once so many have come."""

        async def enough() -> bool:
            return len(self.calls) >= times

        await until(enough, f"{self.question} to be asked {times} times")
        return self.calls


class Provider:
    """The server, in a thread of its own: tests come and go with their loops."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self._plans: dict[str, Plan] = {}
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[Any]] = set()
        self.port = 0

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def plan(self, about: str = "Q", **how: Any) -> Plan:
        """A new plan, whose question begins with `about` and is nobody else's."""
        plan = Plan(f"{about}-{token_hex(4)}", loop=self._loop, **how)
        self._plans[plan.question] = plan
        return plan

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, one request."""
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            await self._answer(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"POST"):
            return await _fail(writer, Failure(404))
        length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        body = json.loads(await reader.readexactly(length))
        messages = [(one["role"], one["content"]) for one in body["messages"]]
        call = Call(body["model"], messages, time.monotonic())
        question = _text(messages[-1][1]) if messages else ""
        plan = self._plans.get(question) or Plan(question)
        self.calls.append(call)
        plan.calls.append(call)
        if call.model in plan.down:
            return await _fail(writer, Failure())
        if len(plan.calls) <= len(plan.failures):
            return await _fail(writer, plan.failures[len(plan.calls) - 1])
        gone: asyncio.Future[Any] = asyncio.ensure_future(reader.read())
        try:
            await (_stream if body.get("stream") else _reply)(writer, plan, gone)
        finally:
            call.left = gone.done()
            gone.cancel()

    def close(self) -> None:
        """Cut what runs."""
        for task in self._tasks:
            task.cancel()


@contextmanager
def provider() -> Iterator[Provider]:
    """A provider that runs for the time of a with-block."""
    made = Provider()
    loop = made._loop
    server = loop.run_until_complete(asyncio.start_server(made.serve, "127.0.0.1", 0))
    made.port = server.sockets[0].getsockname()[1]
    thread = threading.Thread(target=loop.run_forever, name="provider", daemon=True)
    thread.start()

    async def end() -> None:
        server.close()
        made.close()
        await asyncio.gather(*made._tasks, return_exceptions=True)

    try:
        yield made
    finally:
        asyncio.run_coroutine_threadsafe(end(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def _text(content: Any) -> str:
    """What is asked, less the images that are shown with it."""
    if isinstance(content, str):
        return content
    return next((str(part["text"]) for part in content if part["type"] == "text"), "")


async def _stream(writer: asyncio.StreamWriter, plan: Plan, gone: "asyncio.Future[Any]") -> None:
    writer.write(HEAD % b"text/event-stream")
    for number in range(plan.words):
        if not await _wait(plan, number, gone):
            return
        kind = "reasoning_content" if number < plan.thoughts else "content"
        delta = {"index": 0, "delta": {kind: plan.word(number)}, "finish_reason": None}
        _send(writer, {"choices": [delta]})
        await writer.drain()
    if await _wait(plan, plan.words, gone):
        _send(writer, {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        _send(writer, {"choices": [], "usage": _usage(plan)})
        writer.write(b"data: [DONE]\n\n")
        await writer.drain()


async def _reply(writer: asyncio.StreamWriter, plan: Plan, gone: "asyncio.Future[Any]") -> None:
    for number in range(plan.words + 1):
        if not await _wait(plan, number, gone):
            return
    message = {"role": "assistant", "content": plan.answer}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    body = json.dumps({"id": "up-1", "model": "m", "choices": [choice], "usage": _usage(plan)}).encode()
    writer.write(HEAD % b"application/json" + body)
    await writer.drain()


async def _wait(plan: Plan, number: int, gone: "asyncio.Future[Any]") -> bool:
    """Before word `number`; False where the caller left meanwhile."""
    if plan.pace and number:
        await asyncio.wait([gone], timeout=plan.pace)
    if number == plan.hold_after:
        going: asyncio.Future[Any] = asyncio.ensure_future(plan.going.wait())
        await asyncio.wait([gone, going], return_when=asyncio.FIRST_COMPLETED)
        going.cancel()
    return not gone.done()


async def _fail(writer: asyncio.StreamWriter, failure: Failure) -> None:
    if not failure.status:
        return
    body = b'{"error": {"message": "as planned"}}'
    after = b"retry-after: %b\r\n" % failure.retry_after.encode() if failure.retry_after else b""
    rest = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
    writer.write(b"HTTP/1.1 %d X\r\n" % failure.status + after + rest + body)
    await writer.drain()


def _send(writer: asyncio.StreamWriter, data: object) -> None:
    writer.write(b"data: " + json.dumps(data).encode() + b"\n\n")


def _usage(plan: Plan) -> dict[str, int]:
    """A token a word, and one a message of the prompt."""
    return {"prompt_tokens": len(plan.calls[-1].messages), "completion_tokens": plan.words}
