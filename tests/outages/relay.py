"""A stretch of the line between a service and its database that can be cut, stopped up, and lose what it carries."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

CHUNK = 65536


@dataclass(eq=False, slots=True)
class _Link:
    """One connection through the relay, by its two writing ends."""

    near: asyncio.StreamWriter
    far: asyncio.StreamWriter
    deaf: bool = False
    tasks: set["asyncio.Task[None]"] = field(default_factory=set)

    def abort(self) -> None:
        """Reset both ends: nothing that is under way arrives."""
        for writer in (self.near, self.far):
            writer.transport.abort()


class Relay:
    """Passes on what comes to its `port` to a port of this machine, in a thread of its own."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._links: set[_Link] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._trap: bytes | None = None
        self._server: asyncio.Server | None = None
        self.sprung = threading.Event()
        self.port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        self._do(self._leave)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def open(self) -> None:
        """Take connections, on the same port as before."""

        async def listen() -> None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
            self.port = self._server.sockets[0].getsockname()[1]

        asyncio.run_coroutine_threadsafe(listen(), self._loop).result()

    def close(self) -> None:
        """Refuse connections from now on, and cut those that there are."""

        def refuse() -> None:
            if self._server:
                self._server.close()
                self._server = None

        self._do(refuse)
        self.cut()

    def cut(self) -> None:
        """Reset every connection."""
        self._do(lambda: list(map(_Link.abort, tuple(self._links))))

    def freeze(self) -> None:
        """Pass nothing on; connections stay, and new ones are taken."""
        self._do(self._flowing.clear)

    def thaw(self) -> None:
        self._do(self._flowing.set)

    def trap(self, words: bytes) -> None:
        """The next request with these words arrives; its answer does not, and the connection ends. Sets `sprung`."""
        self.sprung.clear()
        self._trap = words

    def _do(self, work: Callable[[], Any]) -> None:
        done = threading.Event()

        def run() -> None:
            work()
            done.set()

        self._loop.call_soon_threadsafe(run)
        assert done.wait(10), "the relay hangs"

    def _leave(self) -> None:
        for link in self._links:
            for task in link.tasks:
                task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        link = _Link(writer, far)
        self._links.add(link)
        link.tasks = {asyncio.create_task(self._up(link, reader)), asyncio.create_task(self._down(link, far_reader))}
        await asyncio.wait(link.tasks, return_when=asyncio.FIRST_COMPLETED)
        link.abort()
        for task in link.tasks:
            task.cancel()
        self._links.discard(link)

    async def _up(self, link: _Link, reader: asyncio.StreamReader) -> None:
        with suppress(OSError):
            while data := await reader.read(CHUNK):
                await self._flowing.wait()
                if self._trap is not None and self._trap in data:
                    self._trap, link.deaf = None, True
                link.far.write(data)
                await link.far.drain()

    async def _down(self, link: _Link, reader: asyncio.StreamReader) -> None:
        with suppress(OSError):
            while data := await reader.read(CHUNK):
                await self._flowing.wait()
                if link.deaf:
                    # It was done, since it was answered.
                    link.abort()
                    self.sprung.set()
                    return
                link.near.write(data)
                await link.near.drain()
