"""A process that bears services and watches them die: `python -m tests.crash.nursery`, asked in lines of JSON.

Services are forked from it once everything is imported and the application is made, so that one is up in a fraction of
a second; what runs in the child is `everturn serve` from its first line on. Their environment is this process's.
Besides, a process may trace its own children wherever it may trace anything.
"""

import gc
import json
import os
import signal
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from service import cli
from service import main as root
from tests.crash.names import Names
from tests.crash.ptrace import Point, Tracer

# What a service imports once it runs; no child has to.
IMPORTED = (
    "service.commands", "alembic.command", "aiosqlite", "asyncpg", "uvloop",
    "uvicorn.loops.auto", "uvicorn.protocols.http.httptools_impl", "uvicorn.lifespan.on",
)  # fmt: skip


class Nursery:
    """One service at a time."""

    def __init__(self) -> None:
        self._pid: int | None = None

    def start(self, log: str) -> dict[str, Any]:
        """A service in a child of this process; it is not ready yet."""
        assert len(list(Path("/proc/self/task").iterdir())) == 1, "a fork takes only the forking thread along"
        self._pid = os.fork()
        if self._pid == 0:
            _serve(log)
        return {"pid": self._pid}

    def watch(self, point: list[Any], ports: dict[str, int], files: dict[str, str]) -> dict[str, Any]:
        """Trace the service until its end; says so first, and at the end what it wrote where."""
        assert self._pid is not None, "nothing to watch"
        tracer = Tracer(self._pid, Point(*point), names=Names(self._pid, ports, files))
        tracer.run(lambda: _say({"armed": True}))
        self._pid = None
        return {"killed": tracer.killed, "writes": tracer.writes}

    def end(self) -> dict[str, Any]:
        """Kill a service that is not watched."""
        if self._pid is not None:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
            self._pid = None
        return {}


def _serve(log: str) -> None:
    """Become the service. Nothing of this process but its imports goes along."""
    nothing, output = os.open(os.devnull, os.O_RDONLY), os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for source, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    sys.argv = ["everturn", "serve"]
    code = 1
    try:
        cli.main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    finally:
        os._exit(code)


def _say(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)  # noqa: T201  # the other end of the pipe reads it


def main() -> None:
    for module in IMPORTED:
        import_module(module)
    root.app = root.create_app()  # otherwise each child makes it
    gc.freeze()  # what was imported is not looked through again in each child
    nursery = Nursery()
    _say({"ready": True})
    for line in sys.stdin:
        asked = json.loads(line)
        _say(getattr(nursery, asked.pop("do"))(**asked))


if __name__ == "__main__":
    main()
