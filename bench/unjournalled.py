"""The service with its journal off, for comparison: pieces are shown without being in the database first.

Begin and finish are committed as ever. Nothing but the bench runs this.
"""

from __future__ import annotations

from service.main import create_app
from service.turns.journal import Journal
from service.turns.live import Live


async def show(self: Journal, live: Live) -> None:
    """In the place of `Journal.append`."""
    live.publish(live.take_pending())


Journal.append = show  # type: ignore[method-assign]  # the bench's switch
app = create_app()
