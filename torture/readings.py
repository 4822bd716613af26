"""Reading everything back through the API when all is over: each record, its whole stream, and one taken up anew."""

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp

from torture.plan import dice

READERS = 12
TIMEOUT = aiohttp.ClientTimeout(total=30)


async def read_back(url: str, keys: Mapping[int, str], completions: list[tuple[int, int]], *, path: Path) -> None:
    """Read the completions (user_id, id) with their owners' keys, round the workers, into a file."""
    waiting = iter(completions)
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    with path.open("w") as file:
        async with aiohttp.ClientSession(connector=connector, timeout=TIMEOUT) as session:

            async def reader() -> None:
                for user_id, completion in waiting:
                    headers = {"Authorization": f"Bearer {keys[user_id]}"}
                    found = await _read(session, f"{url}/completions/{completion}", headers)
                    file.write(json.dumps({"completion": completion, **found}) + "\n")

            await asyncio.gather(*(reader() for _ in range(READERS)))


async def _read(session: aiohttp.ClientSession, url: str, headers: Mapping[str, str]) -> dict[str, Any]:
    status, record = await _get(session, url, headers)
    _, stream = await _get(session, f"{url}/stream", headers)
    after = dice(url).randint(0, max(0, stream.count("\n\n") - 1))
    _, tail = await _get(session, f"{url}/stream?starting_after={after}", headers)
    record = json.loads(record) if status == 200 else {}
    return {"status": status, "record": record, "stream": stream, "after": after, "tail": tail}


async def _get(session: aiohttp.ClientSession, url: str, headers: Mapping[str, str]) -> tuple[int, Any]:
    try:
        async with session.get(url, headers=headers) as response:
            return response.status, (await response.read()).decode()
    except (aiohttp.ClientError, OSError, TimeoutError):
        return 0, ""
