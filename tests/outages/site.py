"""A service on a real database, with what is needed to take the database away from it and to judge what came of it."""

import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
from sqlalchemy.engine import make_url

from tests.conftest import PEPPER, admin_key_for
from tests.evidence.client import Seen
from tests.evidence.judge import violations
from tests.evidence.provider import Provider
from tests.evidence.store import Store, patiently
from tests.evidence.witnesses import Case, Witnesses
from tests.servers.service import Service

LEASE = 8
PATIENCE = 40.0
MOST_AT_ONCE = 220


@dataclass(frozen=True, slots=True)
class Asking:
    """A turn that a client has asked for; its answer comes in another thread."""

    case: Case
    seen: "Future[Seen]"


def known(case: Case, seen: Seen) -> Asking:
    """What came of a turn already."""
    future: Future[Seen] = Future()
    future.set_result(seen)
    return Asking(case, future)


@dataclass(frozen=True, slots=True)
class Site:
    """One service, and everybody who can tell of its turns. `settings` are the service's own."""

    service: Service
    witnesses: Witnesses
    clients: ThreadPoolExecutor

    def ask(self, words: str, *, streamed: bool = True) -> Asking:
        """Have a client ask in a new conversation; returns when it has been begun, so while the database is there."""
        return self.send(self.witnesses.new_case(words, streamed=streamed))

    def send(self, case: Case) -> Asking:
        return Asking(case, self.clients.submit(self.witnesses.send, case))

    def insist(self, case: Case) -> list[Seen]:
        """Ask, and again with the same key while the service cannot answer; everything that was answered."""
        answers: list[Seen] = []
        for _ in patiently(PATIENCE):
            answers.append(self.witnesses.send(case))
            if answers[-1].status in (200, 201):
                break
            time.sleep(0.1)
        return answers

    def said(self, case: Case) -> int:
        """How many words the provider has said so far."""
        return self.witnesses.provider.said(case.question)

    def wait_for_words(self, askings: Sequence[Asking], words: int) -> None:
        """Return when each of them has heard so much from its provider."""
        heard = any(all(self.said(asking.case) >= words for asking in askings) for _ in patiently(PATIENCE))
        assert heard, "the answers did not begin"

    def judge(self, askings: Sequence[Asking], *, kills: int = 0, going_on: bool = True) -> list[str]:
        """What is wrong with these turns once all of them have ended."""
        firsts = [asking.seen.result(PATIENCE) for asking in askings]
        settled = self.witnesses.store.settle()
        found = [] if settled else ["stuck: a turn never ended"]
        for asking, first in zip(askings, firsts, strict=True):
            again = self.witnesses.send(asking.case)
            evidence = self.witnesses.collect(asking.case, first, again, kills=kills, going_on=going_on)
            found += [f"{asking.case.question}: {broken}" for broken in violations(evidence)]
        return found

    def memory(self) -> int:
        """Bytes that the service holds."""
        return int(psutil.Process(self.service.pid).memory_info().rss)


@contextmanager
def open_site(
    url: str, folder: Path, *, port: int | None = None, settings: Mapping[str, str] | None = None
) -> Iterator[Site]:
    """A service on the database of a URL; it reaches the database's server by another `port` where one is given."""
    provider, reached = Provider(), make_url(url)
    if port is not None:
        reached = reached.set(port=port)
    environment = {
        "EVERTURN_DATABASE_URL": reached.render_as_string(hide_password=False),
        "EVERTURN_PEPPER": PEPPER,
        "EVERTURN_LOCAL_MODEL": "off",
        "EVERTURN_LEASE_SECONDS": str(LEASE),
        "EVERTURN_SQLITE_SYNCHRONOUS": "normal",
        "EVERTURN_DRAIN_SECONDS": "1",
        **provider.settings,
        **(settings or {}),
    }
    key = admin_key_for(url)
    with provider.serving(), Service(environment, folder) as service, ThreadPoolExecutor(MOST_AT_ONCE) as clients:
        yield Site(service, Witnesses(Store(url), provider, service.port, key), clients)


@contextmanager
def another_worker(site: Site, folder: Path) -> Iterator[Site]:
    """The same site, seen through a second service on its database."""
    environment = {name: value for name, value in site.service.environment.items() if name != "EVERTURN_PORT"}
    with Service(environment, folder) as service:
        witnesses = replace(site.witnesses, port=service.port)
        yield replace(site, service=service, witnesses=witnesses)


def seeded() -> random.Random:
    """Chance that is the same each time."""
    return random.Random(3)


@contextmanager
def meanwhile(work: Callable[[], object]) -> Iterator[None]:
    """Do it in another thread, and wait for it at the end."""
    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def check(site: Site, running: list[Asking], others: list[tuple[Case, list[Seen]]], *, going_on: bool = True) -> None:
    """Turns that ran before all went on to their end; of those that were begun later, each was refused or taken."""
    for asking in running:
        seen = asking.seen.result(60)
        assert (seen.status, seen.whole) == (200, True), (asking.case, seen.status, seen.whole)
        assert seen.body.endswith(b"data: [DONE]\n\n"), seen.body[-1000:]
    assert site.judge(running, going_on=going_on) == []
    for case, answers in others:
        for refused in answers[:-1]:
            assert refused.status == 503, refused
            assert int(refused.headers["retry-after"]) > 0
            assert refused.json()["code"] == "database_unavailable"
        assert answers[-1].status in (200, 201), (case, answers[-1])
    assert site.judge([known(case, answers[-1]) for case, answers in others], kills=1) == []
