"""Counts the statements that requests send to the database, in a service of this process's own.

`python -m bench.statements '{"key": …, "paths": […]}'`, with the service's environment, prints a JSON list of numbers.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextvars import ContextVar

import httpx2
from fastapi import FastAPI
from sqlalchemy import event

from bench.processes import ROOT, BenchError
from service.config import Settings
from service.main import create_app, run_worker

# What the request of this context has sent; the worker's own work has none.
_sent: ContextVar[list[str] | None] = ContextVar("sent", default=None)


def count(env: Mapping[str, str], key: str, paths: Sequence[str]) -> list[int]:
    """The statements of each path, asked a second time: by then the key is known."""
    command = [sys.executable, "-m", "bench.statements", json.dumps({"key": key, "paths": list(paths)})]
    done = subprocess.run(command, cwd=ROOT, env=dict(env), capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        raise BenchError(f"counting statements failed:\n{done.stderr}")
    found: list[int] = json.loads(done.stdout)
    return found


async def run(key: str, paths: Sequence[str]) -> list[int]:
    """The same in this process."""
    settings = Settings()
    app = create_app(settings)
    async with run_worker(app, settings):
        return [await _ask(app, key, path) for path in paths]


async def _ask(app: FastAPI, key: str, path: str) -> int:
    engine = app.state.services.database.engine.sync_engine
    event.listen(engine, "before_cursor_execute", _note)
    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://bench", timeout=60) as client:
        for _ in range(2):
            sent: list[str] = []
            _sent.set(sent)
            reply = await client.get(path, headers={"Authorization": f"Bearer {key}"})
            _sent.set(None)
            if reply.status_code != 200:
                raise BenchError(f"GET {path}: {reply.status_code} {reply.text[:300]}")
    event.remove(engine, "before_cursor_execute", _note)
    return len(sent)


def _note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
    sent = _sent.get()
    if sent is not None and not statement.startswith("BEGIN"):
        sent.append(statement)


if __name__ == "__main__":
    print(json.dumps(asyncio.run(run(**json.loads(sys.argv[1])))))
