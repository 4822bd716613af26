"""What it costs that every piece is in the database before it is shown: the service beside itself without that."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from bench.databases import Databases, Kind
from bench.load import Load
from bench.processes import Subject, cores, uvicorn
from bench.report import Aim, Part, number, percent
from bench.rounds import Effort, Rounds, take
from bench.streams import PACED, PATH, STREAMS
from bench.subjects import Field, admin_key, environment

AIM_KEPT = 0.60
AIM_LATER_MS: dict[Kind, float] = {"sqlite": 5.0, "postgres": 10.0}
COLUMNS = ("", "chunks/s", "of without", "first token p50 ms", "p95 ms")
LOADS = {
    "as fast as it goes": Load(port=0, paths=PATH, model="canned-256", stream=True, clients=STREAMS, warmup=1.0),
    "12,800 chunks/s offered": Load(
        port=0, paths=PATH, model="canned-256-5ms", stream=True, clients=STREAMS, stagger=1.3, warmup=1.5
    ),
}
FIRST = Load(port=0, paths=PATH, model="canned-64-20ms", stream=True, clients=PACED, stagger=1.3, warmup=1.4)


def run(field: Field, databases: Databases, effort: Effort, *, provider: str) -> Iterator[Part]:
    """Chunks a second of 64 streams, and the first token of 16 paced ones, with and without the journal."""
    assert field.service, "the service is what is compared"
    with without_journal(field.kind, databases, provider=provider) as bare:
        subjects = (replace(field.service, name="journalled"), bare)
        compared = replace(field, service=subjects[0])
        for how, load in LOADS.items():
            yield _chunks(field.kind, take(compared, load, effort, subjects), how)
        yield _first(field.kind, take(compared, FIRST, effort, subjects))


@contextmanager
def without_journal(kind: Kind, databases: Databases, *, provider: str) -> Iterator[Subject]:
    """The service with its journal off, on a database of its own."""
    env = environment(databases.new(kind, "bare"), provider, databases.directory)
    key = admin_key(env)
    with uvicorn("bench.unjournalled:app", name="without", env=env, core=cores()[0], key=key) as subject:
        yield subject


def _chunks(kind: Kind, taken: list[Rounds], how: str) -> Part:
    kept, bare = (rounds.median(lambda one: one.chunk_rate) for rounds in taken)
    what = f"the journal's price, {kind}, {how}: ≥ {AIM_KEPT:.0%} of the chunks/s without it"
    aim = Aim(what, percent(kept, bare), kept >= AIM_KEPT * bare)
    title = f"The journal's price, {kind}, {STREAMS} streams, {how}"
    return Part(title, COLUMNS, _rows(taken, bare), (aim,))


def _first(kind: Kind, taken: list[Rounds]) -> Part:
    mine, bare = (rounds.median(lambda one: one.result.first_p50) for rounds in taken)
    limit = AIM_LATER_MS[kind]
    what = f"the journal's price, {kind}: first token ≤ {limit:g} ms later (p50)"
    aim = Aim(what, f"{mine - bare:.2f} ms", mine - bare <= limit)
    title = f"The journal's price, {kind}, {PACED} streams of a chunk every 20 ms"
    rate = taken[1].median(lambda one: one.chunk_rate)
    return Part(title, COLUMNS, _rows(taken, rate), (aim,))


def _rows(taken: list[Rounds], bare: float) -> tuple[tuple[str, ...], ...]:
    return tuple(
        (
            rounds.subject.name,
            number(rounds.median(lambda one: one.chunk_rate)),
            percent(rounds.median(lambda one: one.chunk_rate), bare),
            number(rounds.median(lambda one: one.result.first_p50)),
            number(rounds.median(lambda one: one.result.first_p95)),
        )
        for rounds in taken
    )
