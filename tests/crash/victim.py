"""A service that is to be killed at one of its writes, and started again."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from tests.crash.ptrace import Point
from tests.evidence.client import ask
from tests.servers.postgres import free_port
from tests.servers.service import ROOT, surroundings

READY_SECONDS = 60.0
ANSWER_SECONDS = 120.0


class Death(NamedTuple):
    """How a watched service ended: at the write that was chosen, or before it came; and what it wrote until then."""

    killed: bool
    writes: list[str]


class Victim:
    """A service of a nursery of its own. `ports` and `files` name what its writes are counted to."""

    def __init__(
        self, environment: Mapping[str, str], folder: Path, *, ports: Mapping[str, int], files: Mapping[str, str]
    ) -> None:
        self.port = free_port()
        self.log = folder / "service.log"
        self._ports = {**ports, "client": self.port}
        self._files = dict(files)
        self._pid = 0
        self._nursery = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.nursery"],
            cwd=ROOT,
            env=surroundings() | {"EVERTURN_PORT": str(self.port), "PYTHONFAULTHANDLER": "1"} | dict(environment),
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self._hear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.killpg(self._nursery.pid, signal.SIGKILL)
        self._nursery.wait()
        for pipe in (self._nursery.stdin, self._nursery.stdout):
            assert pipe
            pipe.close()

    def start(self) -> None:
        """Return when it is ready. Raises AssertionError with its log when it does not get so."""
        self.launch()
        self.wait_ready()

    def launch(self) -> None:
        """Do not wait until it is ready."""
        self._pid = self._tell("start", log=str(self.log))["pid"]

    def wait_ready(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while ask(self.port, "GET", "/health/ready", key="").status != 200:
            alive = time.monotonic() < deadline and self.lives()
            assert alive, f"the service does not get ready:\n{self.log.read_text('utf-8', 'replace')}"
            time.sleep(0.01)

    def watch(self, point: Point) -> None:
        """From now on its writes are counted, and this one is its death."""
        self._tell("watch", point=point, ports=self._ports, files=self._files)

    def death(self) -> Death:
        """Of a watched one; where it lives still, it is killed now."""
        with suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)
        self._pid = 0
        return Death(**self._hear())

    def kill(self) -> None:
        """Of one that is not watched."""
        self._tell("end")
        self._pid = 0

    def lives(self) -> bool:
        """Whether one was started that has not ended."""
        try:
            state = Path(f"/proc/{self._pid}/stat").read_text("ascii").rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return False
        return state not in "ZX"

    def _tell(self, command: str, **arguments: Any) -> dict[str, Any]:
        assert self._nursery.stdin
        self._nursery.stdin.write(json.dumps({"do": command, **arguments}).encode() + b"\n")
        return self._hear()

    def _hear(self) -> dict[str, Any]:
        """The next answer. Raises AssertionError where none comes; standard error tells what it was at then."""
        assert self._nursery.stdout
        if not select.select([self._nursery.stdout], [], [], ANSWER_SECONDS)[0]:
            self._nursery.send_signal(signal.SIGABRT)
            raise AssertionError(
                f"the nursery says nothing; the service's log:\n{self.log.read_text('utf-8', 'replace')}"
            )
        line = self._nursery.stdout.readline()
        assert line, "the nursery is gone; its own words are on standard error"
        answer: dict[str, Any] = json.loads(line)
        return answer
