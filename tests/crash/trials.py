"""One death at a chosen write, and what is left of the turn when another service has come up."""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.conftest import PEPPER
from tests.crash.ptrace import Point
from tests.crash.victim import Victim
from tests.evidence.client import Seen
from tests.evidence.judge import violations
from tests.evidence.provider import Provider
from tests.evidence.store import Store, patiently
from tests.evidence.witnesses import Case, Witnesses

LEASE = 3
NEVER = Point(10**6, "before")  # a write that never comes


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of a service that was to die at a point. The last of `writes` is the one at which it did."""

    point: Point
    killed: bool
    writes: list[str]
    violations: list[str]

    @property
    def words(self) -> str:
        where = f"{self.point.moment} write {len(self.writes)}, {self.writes[-1]}" if self.killed else "at the end"
        return f"killed {where}: " + "; ".join(self.violations)


class Scenario(Protocol):
    """A way to a death."""

    def __call__(self, house: "House", point: Point) -> Trial: ...


@dataclass(frozen=True, slots=True)
class House:
    """A database, a provider, and a service on them that is killed and started again."""

    witnesses: Witnesses
    victim: Victim

    @property
    def store(self) -> Store:
        return self.witnesses.store

    def inherit(self, died: float, firsts: Mapping[Case, Seen], *, kills: int) -> list[str]:
        """Have another service take over what one that `died` then held, ask again, and judge what came of it all."""
        self.victim.launch()
        self.store.lapse(died + LEASE)
        self.victim.wait_ready()
        again = {case: self.witnesses.send(case) for case in firsts}
        settled = self.store.settle()
        found = []
        for case, first in firsts.items():
            evidence = self.witnesses.collect(case, first, again[case], kills=kills)
            evidence.settled = settled
            found += violations(evidence)
        self.victim.kill()
        return found


@contextmanager
def open_house(url: str, key: str, folder: Path, *, server: int | None) -> Iterator[House]:
    """`server` is the port of the database's server; a database without one is a file."""
    store, provider = Store(url), Provider()
    database = {"database": store.path, "wal": f"{store.path}-wal", "journal": f"{store.path}-journal"}
    environment = {
        "EVERTURN_DATABASE_URL": url,
        "EVERTURN_PEPPER": PEPPER,
        "EVERTURN_LOCAL_MODEL": "off",
        "EVERTURN_LEASE_SECONDS": str(LEASE),
        "EVERTURN_SQLITE_SYNCHRONOUS": "full",
        **provider.settings,
    }
    ports = {"provider": provider.port} | ({} if server is None else {"postgres": server})
    files = database if server is None else {}
    with provider.serving(), Victim(environment, folder, ports=ports, files=files) as victim:
        yield House(Witnesses(store, provider, victim.port, key), victim)


def streamed(house: House, point: Point) -> Trial:
    """A streamed turn of a service that has just come up; on SQLite its first commit is a checkpoint as well."""
    return _one_turn(house, point, stream=True)


def folded(house: House, point: Point) -> Trial:
    """A turn that is answered in one piece, of a service that has just come up."""
    return _one_turn(house, point, stream=False)


def _one_turn(house: House, point: Point, *, stream: bool) -> Trial:
    house.victim.start()
    case = house.witnesses.new_case("And now?", streamed=stream)
    if stream:
        house.store.fill_log()
    house.victim.watch(point)
    first = house.witnesses.send(case)
    death, died = house.victim.death(), time.time()
    return Trial(point, death.killed, death.writes, house.inherit(died, {case: first}, kills=1))


def recovered(house: House, point: Point) -> Trial:
    """The heir of two lost turns dies in its turn: of one that had said something, and of one that had not."""
    house.victim.start()
    cases = (
        house.witnesses.new_case("Speak, then hang:2", streamed=True),
        house.witnesses.new_case("Do not speak, hang:0", streamed=False),
    )
    firsts = _begin_and_die(house, *cases)
    died = time.time()
    house.victim.start()
    house.victim.watch(point)
    house.store.lapse(died + LEASE)
    any(not house.victim.lives() or not house.store.running() for _ in patiently())
    death, died = house.victim.death(), time.time()
    return Trial(point, death.killed, death.writes, house.inherit(died, firsts, kills=2))


def _begin_and_die(house: House, speaking: Case, silent: Case) -> dict[Case, Seen]:
    """Both turns under way as far as their provider lets them, then a kill; what their clients saw."""
    seen: dict[Case, Seen] = {}

    def ask(case: Case) -> None:
        seen[case] = house.witnesses.send(case)

    threads = [threading.Thread(target=ask, args=[case]) for case in (speaking, silent)]
    for thread in threads:
        thread.start()
    journalled = "SELECT coalesce(max(last_seq), 0) AS n FROM events WHERE completion_id IN (SELECT id FROM completions"
    query = f"{journalled} WHERE conversation_id = {speaking.conversation})"
    provider = house.witnesses.provider
    under_way = any(provider.calls_of(silent.question) and house.store.read(query)[0][0]["n"] == 2 for _ in patiently())
    assert under_way, "the turns did not get as far as they should"
    house.victim.kill()
    for thread in threads:
        thread.join()
    return seen
