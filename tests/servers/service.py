"""The real service as a process of its own: started, asked, stopped, killed and started again."""

import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.servers.postgres import free_port

ROOT = Path(__file__).resolve().parents[2]
READY_SECONDS = 60.0
STOP_SECONDS = 60.0
# Names that configure a service, or have it compile itself anew; those of this machine reach neither it nor the tests.
FOREIGN = (
    *("EVERTURN_", "OPENAI_", "ANTHROPIC_", "OPENROUTER_", "LITELLM_", "PROMETHEUS_"),
    "PYTHONDONTWRITEBYTECODE",
)
EVERTURN = (sys.executable, "-m", "service.cli")
UVICORN = (sys.executable, "-m", "uvicorn", "service.main:app", "--host", "127.0.0.1", "--port", "{port}")


class ServiceError(Exception):
    """A service that does not start or stop as it should, with its log."""


class Service:
    """A service on a free port of 127.0.0.1, ready inside a with-block and stopped after it.

    Its environment is this process's without FOREIGN, and `environment` over it. It writes to `folder`/service.log.
    `command` is `everturn serve` unless it is given, say as UVICORN; it gets the port in `{port}` and EVERTURN_PORT.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        folder: Path,
        *,
        port: int | None = None,
        command: Sequence[str] = (*EVERTURN, "serve"),
    ) -> None:
        self.port = port or free_port()
        own = {"EVERTURN_PORT": str(self.port), "EVERTURN_DATA_DIR": str(folder / "data")}
        self.environment = surroundings() | own | dict(environment)
        self.log = folder / "service.log"
        self._command = [part.format(port=self.port) for part in command]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self.runs:
                self.stop()
        finally:
            self.kill()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        """The process that was started last; with several workers the one above them."""
        if self._process is None:
            raise ServiceError("The service was not started.")
        return self._process

    @property
    def runs(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        return self.process.pid

    def log_text(self) -> str:
        """What the service has written so far, on both of its outputs, over all its starts."""
        return self.log.read_text("utf-8", "replace") if self.log.exists() else ""

    def launch(self) -> None:
        """Start it and do not wait, say because it is expected to refuse."""
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command,
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def start(self) -> None:
        """Start it, again on the same port after a stop or a kill. Raises ServiceError when it does not get ready."""
        self.launch()
        try:
            self.wait_ready()
        except ServiceError:
            self.kill()
            raise

    def wait_ready(self, seconds: float = READY_SECONDS) -> None:
        """Return at the first 200 of /health/ready. Raises ServiceError when the process ends or takes too long."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise ServiceError(f"The service ended with {self.process.returncode}:\n{self.log_text()}")
            if self.status_of("/health/ready") == 200:
                return
            time.sleep(0.02)
        raise ServiceError(f"The service was not ready within {seconds:.0f} s:\n{self.log_text()}")

    def status_of(self, path: str) -> int:
        """The status of one GET without a key; 0 where nobody answers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return 0
        finally:
            connection.close()

    def terminate(self) -> None:
        """SIGTERM, without waiting."""
        self.process.terminate()

    def wait(self, seconds: float = STOP_SECONDS) -> int:
        """The exit code of a process that is about to end. Raises ServiceError, after a SIGKILL, if it does not."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise ServiceError(f"The service did not stop within {seconds:.0f} s:\n{self.log_text()}") from None

    def stop(self, seconds: float = STOP_SECONDS) -> int:
        """SIGTERM, and the exit code."""
        self.terminate()
        return self.wait(seconds)

    def kill(self) -> None:
        """SIGKILL to the process and to those below it, so that nothing of it runs on."""
        if self._process is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def surroundings() -> dict[str, str]:
    """This process's environment without what configures a service, so without anybody's keys."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    return kept | {"PYTHONUNBUFFERED": "1"}


def run_everturn(*arguments: str, environment: Mapping[str, str]) -> "subprocess.CompletedProcess[str]":
    """The command line in a process of its own, with both outputs."""
    return subprocess.run(
        [*EVERTURN, *arguments],
        cwd=ROOT,
        env=surroundings() | dict(environment),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
