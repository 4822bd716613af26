"""One run, from an empty database to a folder of evidence."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.servers.postgres import free_port
from tests.servers.service import ROOT
from torture import databases
from torture.asks import Asker
from torture.databases import Postgres, Sqlite, dump
from torture.exchanges import Exchanges, Person
from torture.ledgers import Ledger
from torture.nemesis import Nemesis
from torture.plan import LEASE_SECONDS, TOTAL_SECONDS, Plan
from torture.provider import OPEN
from torture.readings import read_back
from torture.relay import Relay
from torture.talkers import Talker
from torture.workers import Worker, environment, prepare, service

PEOPLE = 4
# Three attempts, each as long as a provider may take, and the leases between them.
SETTLE_SECONDS = 3 * (TOTAL_SECONDS + 2 * LEASE_SECONDS) + 10


async def run(plan: Plan, folder: Path) -> None:
    """Torture the service as planned and leave the evidence in the folder. Raises ServiceError, PostgresError."""
    with databases.store(plan.kind, folder) as database, provider(plan, folder) as port:
        admin = await asyncio.to_thread(prepare, database.url())
        async with (
            workers(plan, database, folder, provider_port=port) as crew,
            Relay(lambda: [worker.service.port for worker in crew]) as front,
        ):
            await asyncio.gather(*(worker.start() for worker in crew))
            url = f"http://127.0.0.1:{front.port}"
            there = Field(crew, database, front, port)
            people = await torture(plan, there, admin=admin, folder=folder)
            await settle(database)
            (rows,) = await database.snapshot("SELECT user_id, id FROM completions ORDER BY id")
            names = [(int(row[0]), int(row[1])) for row in rows]
            keys = {person.id: person.key for person in people}
            await read_back(url, keys, names, path=folder / "readings.jsonl")
            await dump(database, folder)


@dataclass(frozen=True, slots=True)
class Field:
    """Where it happens: the workers, their database, the relay before them and the provider's port."""

    crew: list[Worker]
    database: Sqlite | Postgres
    front: Relay
    provider_port: int

    async def open_calls(self) -> Mapping[str, int]:
        """How many calls each worker has open at the provider."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.provider_port)
        writer.write(f"GET {OPEN} HTTP/1.1\r\n\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = int(head.lower().partition("content-length: ")[2].split()[0])
        found: dict[str, int] = json.loads(await reader.readexactly(length))
        writer.close()
        return found


async def torture(plan: Plan, there: Field, *, admin: str, folder: Path) -> list[Person]:
    """Talk and strike until the plan is fulfilled, then heal."""
    ledger, nemesis_ledger = Ledger(folder / "client.jsonl"), Ledger(folder / "nemesis.jsonl")
    exchanges = Exchanges(f"http://127.0.0.1:{there.front.port}", ledger)
    over = asyncio.Event()
    try:
        people = await arrive(exchanges, Person(0, admin))
        asker = Asker(plan.seed, exchanges, ledger)
        talkers = [
            Talker(number, plan.seed, asker, person=people[number % PEOPLE], over=over)
            for number in range(plan.talkers)
        ]
        nemesis = Nemesis(
            plan,
            there.crew,
            there.database,
            front=there.front,
            open_calls=there.open_calls,
            ledger=nemesis_ledger,
        )
        talking = asyncio.gather(*(talker.talk() for talker in talkers))
        striking = asyncio.create_task(nemesis.strike(over) if plan.every else over.wait())
        await watch(plan, lambda: (asker.score.accepted, nemesis.struck), talking, striking)
        over.set()
        await striking
        await talking
    finally:
        await exchanges.close()
        ledger.close()
        nemesis_ledger.close()
    return people


async def watch(plan: Plan, score: Callable[[], tuple[int, int]], *busy: "asyncio.Future[Any]") -> None:
    """Return when the plan is fulfilled, or somebody who is busy broke; say now and then how far it is."""
    loop = asyncio.get_running_loop()
    began, said = loop.time(), 0.0
    turns, faults = score()
    while turns < plan.turns or faults < plan.faults:
        seconds = loop.time() - began
        if seconds > plan.seconds or any(one.done() for one in busy):
            return
        if seconds >= said + 15:
            said = seconds
            rate = turns / seconds
            print(f"{seconds:5.0f} s  {turns} turns, {rate:.1f} a second, {faults} faults", file=sys.stderr)
        await asyncio.wait(busy, timeout=1, return_when=asyncio.FIRST_COMPLETED)
        turns, faults = score()


async def arrive(exchanges: Exchanges, admin: Person) -> list[Person]:
    """New users of the service."""
    people = []
    for number in range(PEOPLE):
        made = (await exchanges.post(admin, "/users", {"username": f"user-{number}"})).body
        key = (await exchanges.post(admin, f"/users/{made['id']}/keys", {"name": "torture"})).body
        people.append(Person(made["id"], key["key"]))
    return people


async def settle(database: Sqlite | Postgres) -> None:
    """Return when no turn runs, or when any must have ended: then the checker finds it stuck."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + SETTLE_SECONDS
    while loop.time() < deadline:
        (((running,),),) = await database.snapshot(databases.UNFINISHED)
        if not running:
            return
        await asyncio.sleep(0.5)


@contextmanager
def provider(plan: Plan, folder: Path) -> Any:
    """The provider in a process of its own, and its port."""
    port = free_port()
    command = [sys.executable, "-m", "torture.provider", str(port), str(plan.seed), str(folder / "provider.jsonl")]
    process = subprocess.Popen(command, cwd=ROOT)
    try:
        yield port
    finally:
        process.terminate()
        process.wait()


@asynccontextmanager
async def workers(
    plan: Plan, database: Sqlite | Postgres, folder: Path, *, provider_port: int
) -> AsyncIterator[list[Worker]]:
    """The workers, not started, each with its way to the database; at the end none of them lives."""
    async with AsyncExitStack() as stack:
        crew: list[Worker] = []
        target = database.port
        for number in range(1, plan.workers + 1):
            leg = await stack.enter_async_context(Relay(lambda: [target])) if target else None
            name = f"worker-{number}"
            settings = environment(name, database.url(leg.port if leg else None), provider_port)
            crew.append(Worker(name, service(name, settings, folder), leg))
        try:
            yield crew
        finally:
            for worker in crew:
                for start in tuple(worker.starts):
                    start.cancel()
                worker.kill()
