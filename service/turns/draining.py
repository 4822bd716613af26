"""The end of a worker: on a signal it finishes what it can, hands over the rest, and only then lets the server stop."""

import asyncio
import logging
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable
from types import FrameType
from typing import Any

from service.turns.engine import Engine
from service.turns.recovery import Recovery
from service.turns.watch import Watch

log = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Draining:
    """Drains a worker once. While it does, the server goes on answering: what runs is followed, readiness is 503.

    A second signal ends the grace: what runs is handed over at once. A third gets through to the server.
    """

    def __init__(self, engine: Engine, recovery: Recovery, watch: Watch, *, grace: float) -> None:
        self._engine = engine
        self._recovery = recovery
        self._watch = watch
        self._grace = grace
        self._task: asyncio.Task[None] | None = None
        self._previous: dict[int, Any] = {}

    def listen(self) -> None:
        """Take the server's signals first; it gets them when the worker has drained."""
        if threading.current_thread() is not threading.main_thread():
            return
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            self._previous[number] = signal.signal(number, self._handler(loop))

    async def run(self) -> None:
        """Drain, or wait until that is done."""
        if self._task is None:
            self._task = asyncio.create_task(self._drain(), name="drain")
        await asyncio.shield(self._task)

    def close(self) -> None:
        """Give the signals back."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def _handler(self, loop: asyncio.AbstractEventLoop) -> Callable[[int, FrameType | None], None]:
        came: Counter[int] = Counter()

        def handle(number: int, frame: FrameType | None) -> None:
            # Ctrl-C reaches a worker twice: from the terminal, and as a SIGTERM from the process above it.
            first, again = not came, came[number] == 1
            came[number] += 1
            if first:
                log.info("draining")
                loop.call_soon_threadsafe(self._begin, number)
            elif again:
                loop.call_soon_threadsafe(self._engine.hurry)
            elif came[number] > 2:
                self._pass_on(number, frame)

        return handle

    def _begin(self, number: int) -> None:
        drained = asyncio.ensure_future(self.run())
        drained.add_done_callback(lambda _done: self._pass_on(number, None))

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        previous = self._previous.get(number)
        if callable(previous):
            previous(number, frame)
        elif previous == signal.SIG_DFL:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    async def _drain(self) -> None:
        self._engine.close()
        await self._recovery.settle()
        await self._engine.drain(self._grace)
        await self._watch.stop()
