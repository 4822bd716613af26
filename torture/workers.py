"""The workers: real services, each with a port, a key at the provider and a way to the database of its own."""

import asyncio
import json
import os
import signal
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from tests.servers.service import Service, ServiceError, run_everturn
from torture.plan import DRAIN_SECONDS, JOURNAL_SECONDS, LEASE_SECONDS, MODELS, POOL, PROVIDERS, TOTAL_SECONDS
from torture.relay import Relay

State = Literal["up", "stopped", "down"]
PEPPER = "a pepper for torture, long enough to pass"


@dataclass(eq=False)
class Worker:
    """One service and its way to the database; `leg` is None where that is a file."""

    name: str
    service: Service
    leg: Relay | None
    state: State = "down"
    starts: set["asyncio.Task[None]"] = field(default_factory=set)

    async def start(self) -> None:
        """Start it and return once it is ready, however long the database keeps it waiting."""
        self.service.launch()
        while True:
            try:
                await asyncio.to_thread(self.service.wait_ready)
            except ServiceError:
                # A start that found no database, or one in the middle of a restart, is tried again as systemd would.
                await asyncio.to_thread(self.service.kill)
                self.service.launch()
            else:
                self.state = "up"
                return

    def kill(self) -> None:
        """SIGKILL: nothing of it runs on."""
        self.state = "down"
        self.service.kill()

    def pause(self) -> None:
        """SIGSTOP: it keeps its sockets and does nothing."""
        self.state = "stopped"
        os.killpg(self.service.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        os.killpg(self.service.pid, signal.SIGCONT)
        self.state = "up"

    async def stop(self) -> int:
        """SIGTERM, and the exit code; that of a SIGKILL where it does not end."""
        self.state = "down"
        try:
            return await asyncio.to_thread(self.service.stop)
        except ServiceError:
            return int(self.service.process.returncode)

    def start_soon(self, after: float) -> None:
        """Start it again after so many seconds, beside what else happens."""

        async def start() -> None:
            await asyncio.sleep(after)
            await self.start()

        task = asyncio.create_task(start())
        self.starts.add(task)
        task.add_done_callback(self.starts.discard)


def environment(name: str, database_url: str, provider_port: int) -> dict[str, str]:
    """How a worker is configured: short leases and time-outs, few connections."""
    base = f"http://127.0.0.1:{provider_port}"
    providers = [
        {
            "name": provider,
            "wire": wire,
            "base_url": f"{base}/{provider}/v1"[: None if wire == "openai" else -3],
            "api_key": name,
        }
        for provider, wire in PROVIDERS.items()
    ]
    return {
        "EVERTURN_DATABASE_URL": database_url,
        "EVERTURN_DATABASE_POOL": str(POOL),
        "EVERTURN_PEPPER": PEPPER,
        "EVERTURN_PROVIDERS": json.dumps(providers),
        "EVERTURN_MODELS": json.dumps([_declared(model) for model in MODELS]),
        "EVERTURN_DEFAULT_MODEL": MODELS[0].id,
        "EVERTURN_LOCAL_MODEL": "off",
        "EVERTURN_LEASE_SECONDS": str(LEASE_SECONDS),
        "EVERTURN_DRAIN_SECONDS": str(DRAIN_SECONDS),
        "EVERTURN_CONNECT_TIMEOUT": "2",
        "EVERTURN_FIRST_BYTE_TIMEOUT": "2",
        "EVERTURN_IDLE_TIMEOUT": "1.5",
        "EVERTURN_TOTAL_TIMEOUT": str(TOTAL_SECONDS),
        "EVERTURN_BREAKER_SECONDS": "2",
        "EVERTURN_JOURNAL_HOURS": str(JOURNAL_SECONDS / 3600),
        "EVERTURN_LOG_LEVEL": "warning",
    }


def _declared(model: Any) -> dict[str, str]:
    fields: Mapping[str, str | None] = asdict(model)
    prices = {f"{name}_price": price for name, price in fields.items() if name not in ("provider", "name") and price}
    return {"id": model.id, "provider": model.provider, "upstream": model.name, **prices}


def prepare(database_url: str) -> str:
    """Migrate, and make an admin: the key. Raises ServiceError."""
    settings = {"EVERTURN_DATABASE_URL": database_url, "EVERTURN_PEPPER": PEPPER, "EVERTURN_LOCAL_MODEL": "off"}

    def everturn(*arguments: str) -> str:
        done = run_everturn(*arguments, environment=settings)
        if done.returncode:
            raise ServiceError(f"everturn {' '.join(arguments)} ended with {done.returncode}:\n{done.stderr}")
        return done.stdout.strip()

    everturn("migrate")
    everturn("users", "create", "--username", "root", "--role", "admin")
    return everturn("keys", "create", "--user", "root", "--kind", "admin")


def service(name: str, settings: Mapping[str, str], folder: Path) -> Service:
    """A worker's service, not started; its log is in a folder of its own."""
    (folder / name).mkdir()
    return Service(settings, folder / name)
