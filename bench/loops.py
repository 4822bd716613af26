"""The fastest event loop that is here: uvloop where it is installed, so that the load costs less than its subject."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import TypeVar

Answer = TypeVar("Answer")
_factory: Callable[[], asyncio.AbstractEventLoop] | None
try:
    import uvloop
except ImportError:
    _factory = None
else:
    _factory = uvloop.new_event_loop


def run(main: Coroutine[object, object, Answer]) -> Answer:
    """As asyncio.run."""
    with asyncio.Runner(loop_factory=_factory) as runner:
        return runner.run(main)
