"""The end of a task that runs beside others."""

import asyncio


async def end(*tasks: "asyncio.Task[None] | None") -> None:
    """Cancel tasks and wait until they are over, with whatever they still had to put away.

    One that is cancelled inside a query gives its connection back on its way out. Closing the database meanwhile closes
    that connection twice, and the second close never returns.
    """
    running = [task for task in tasks if task is not None]
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
