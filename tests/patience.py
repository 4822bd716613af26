"""Waiting for something to be so, and no longer than for it."""

import asyncio
import time
from collections.abc import Awaitable, Callable

PATIENCE = 20.0


async def until(so: Callable[[], Awaitable[object]], what: str) -> None:
    """Return when it is so. Raises AssertionError when it takes too long."""
    deadline = time.monotonic() + PATIENCE
    while not await so():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        await asyncio.sleep(0.01)
