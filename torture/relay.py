"""A TCP relay that can be cut and frozen: before the workers, in turn, and on each worker's way to its database."""

import asyncio
import socket
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

CHUNK = 65536
# How long the server has for a COMMIT whose answer is kept from the one who sent it.
COMMIT_SECONDS = 0.15


class Relay:
    """Listens on `port` of 127.0.0.1 and connects each connection to the next of `targets` that takes it."""

    def __init__(self, targets: Callable[[], Sequence[int]]) -> None:
        self.port = 0
        self._targets = targets
        self._turn = 0
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._open = {"up": asyncio.Event(), "down": asyncio.Event()}
        self._trap: asyncio.Future[None] | None = None
        self.thaw()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=1024)
        self.port = int(self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server
        self._server.close()
        self.thaw()
        self.cut()
        await asyncio.gather(*self._tasks)

    def cut(self) -> int:
        """Break every connection; return how many there were."""
        links = tuple(self._links)
        for link in links:
            link.abort()
        return len(links)

    def freeze(self, *ways: str) -> None:
        """Let no byte through, `up` to the target or `down` from it, until `thaw`."""
        for way in ways:
            self._open[way].clear()

    def thaw(self) -> None:
        for gate in self._open.values():
            gate.set()

    async def swallow_commit(self, seconds: float) -> bool:
        """Let the next COMMIT through, keep its answer back and break the connection; False where none came."""
        trap = self._trap = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(seconds):
                await trap
        except TimeoutError:
            return False
        finally:
            self._trap = None
        return True

    def spring(self) -> bool:
        """Take the trap, once."""
        if self._trap is None or self._trap.done():
            return False
        self._trap.set_result(None)
        return True

    async def passage(self, way: str) -> None:
        await self._open[way].wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        far = await self._connect()
        if far is None:
            reset(writer)
            return
        link = _Link(self, (reader, writer), far)
        self._links.add(link)
        try:
            await link.run()
        finally:
            self._links.discard(link)
            link.abort()

    async def _connect(self) -> "Pipe | None":
        targets = self._targets()
        self._turn += 1
        for step in range(len(targets)):
            with suppress(OSError):
                return await asyncio.open_connection("127.0.0.1", targets[(self._turn + step) % len(targets)])
        return None


def reset(writer: asyncio.StreamWriter) -> None:
    """End a connection as a network does that breaks: with a reset, whatever was still to be sent."""
    inner = writer.get_extra_info("socket")
    if inner is not None and inner.fileno() >= 0:
        inner.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


Pipe = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class _Link:
    """One connection through a relay."""

    def __init__(self, relay: Relay, near: Pipe, far: Pipe) -> None:
        self._relay = relay
        self._near, self._far = near, far
        self._journal = False
        self._deaf = False

    async def run(self) -> None:
        """Carry bytes until either side ends."""
        ways = [asyncio.create_task(self._up()), asyncio.create_task(self._down())]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            for _, writer in (self._near, self._far):
                with suppress(OSError):
                    writer.close()

    def abort(self) -> None:
        for _, writer in (self._near, self._far):
            reset(writer)

    async def _up(self) -> None:
        with suppress(OSError):
            while data := await self._near[0].read(CHUNK):
                await self._relay.passage("up")
                caught = self._commits(data) and self._relay.spring()
                self._deaf = self._deaf or caught
                self._far[1].write(data)
                await self._far[1].drain()
                if caught:
                    await asyncio.sleep(COMMIT_SECONDS)
                    return self.abort()

    async def _down(self) -> None:
        with suppress(OSError):
            while data := await self._far[0].read(CHUNK):
                await self._relay.passage("down")
                if not self._deaf:
                    self._near[1].write(data)
                    await self._near[1].drain()

    def _commits(self, data: bytes) -> bool:
        """Whether Postgres commits when it has this: a COMMIT, or a statement of the journal, which is one by itself.

        The journal's connection is known by what was parsed on it; from then on a Bind ("B") begins each statement.
        """
        if b"json_to_recordset" in data and b"WITH " in data:
            self._journal = True
        return b"COMMIT" in data or (self._journal and data[:1] == b"B")
