"""Processes of a run: where they are pinned, when they are ready, what they use."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import psutil

from bench.load import Load, Result

ROOT = Path(__file__).resolve().parent.parent
READY_SECONDS = 60.0


class BenchError(Exception):
    """A run that cannot be trusted: a process that died, a wrong answer, a turn that is not stored."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A server under load. `ready_seconds` is from the process's start to the first 200 on /health/ready."""

    name: str
    pid: int
    port: int
    key: str = ""
    ready_seconds: float = 0.0

    def cpu_seconds(self) -> float:
        """What the process and its children have used, since their start."""
        times = [process.cpu_times() for process in self._processes()]
        return sum(each.user + each.system for each in times)

    def resident_mb(self) -> float:
        """Resident memory of the process and its children, in 10^6 bytes."""
        return sum(process.memory_info().rss for process in self._processes()) / 1e6

    def _processes(self) -> list[psutil.Process]:
        process = psutil.Process(self.pid)
        return [process, *process.children(recursive=True)]


@dataclass(frozen=True, slots=True)
class Measured:
    """A load's result, and the CPU that the subject used while it ran."""

    result: Result
    cpu_seconds: float

    @property
    def rate(self) -> float:
        """Measured answers a second."""
        return self.result.answered / self.result.seconds

    @property
    def chunk_rate(self) -> float:
        """The provider's chunks that arrived at the clients, a second."""
        return self.result.chunks / self.result.seconds

    @property
    def cpu_ms(self) -> float:
        """CPU milliseconds an answer, the warm-up included."""
        return self.cpu_seconds * 1000 / max(self.result.total, 1)


@cache
def cores() -> tuple[set[int], set[int]]:
    """(the subjects' core, the cores of everything else), as this process found them when it first asked.

    The same where there is only one, empty where nothing can be pinned.
    """
    if not hasattr(os, "sched_getaffinity"):
        return set(), set()
    allowed = sorted(os.sched_getaffinity(0))
    return {allowed[0]}, set(allowed[1:] or allowed)


def pin(where: set[int]) -> None:
    """Pins this process and all that it starts from now on."""
    if where and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, where)


@contextmanager
def started(
    command: Sequence[str], *, env: Mapping[str, str], core: set[int] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A process in the project's root, ended with the block; its output goes to the bench's standard error."""
    pin(core or cores()[1])
    try:
        process = subprocess.Popen(command, cwd=ROOT, env=dict(env), stdout=sys.stderr)
    finally:
        pin(cores()[1])
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def uvicorn(app: str, *, name: str, env: Mapping[str, str], core: set[int], key: str = "") -> Iterator[Subject]:
    """An application in one uvicorn worker on its core, ready. Raises BenchError if it does not get ready."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", app, "--host", "127.0.0.1", "--port", str(port)]
    command += ["--no-access-log", "--log-level", "warning"]
    began = time.monotonic()
    with started(command, env=env, core=core) as process:
        wait_ready(process, port, "/health/ready")
        yield Subject(name, process.pid, port, key, time.monotonic() - began)


@contextmanager
def provider() -> Iterator[str]:
    """The canned provider's base URL."""
    port = free_port()
    command = [sys.executable, "-m", "bench.provider", str(port)]
    with started(command, env=os.environ) as process:
        wait_ready(process, port, "/v1/models")
        yield f"http://127.0.0.1:{port}/v1"


def measure(subject: Subject, load: Load) -> Measured:
    """Loads a subject from a process of its own. Raises BenchError on a wrong answer."""
    cpu = subject.cpu_seconds()
    command = [sys.executable, "-m", "bench.load", json.dumps(asdict(load))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        raise BenchError(f"the load generator failed on {subject.name}:\n{done.stderr}")
    found = json.loads(done.stdout)
    result = Result(**{**found, "errors": tuple(found["errors"])})
    if result.errors:
        raise BenchError(f"{subject.name} answered wrongly: {result.errors[0]}")
    return Measured(result, subject.cpu_seconds() - cpu)


def wait_ready(process: subprocess.Popen[bytes], port: int, path: str) -> None:
    """Returns at the first 200. Raises BenchError when the process ends or takes too long."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise BenchError(f"{process.args!r} ended with {process.returncode}")
        if _asks(port, path) == 200:
            return
        time.sleep(0.005)
    raise BenchError(f"{process.args!r} was not ready after {READY_SECONDS:.0f} s")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _asks(port: int, path: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()
