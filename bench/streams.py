"""Streams: chunks a second at 64 streams, and what is added to the first token at 16 paced ones."""

from __future__ import annotations

from bench import canned
from bench.load import Load
from bench.report import Aim, Part, number, percent
from bench.rounds import Effort, Rounds, take
from bench.subjects import Field

STREAMS, PACED = 64, 16
PATH = ("/chat/completions/stream",)
AIM_CHUNKS, AIM_FIRST_MS = 10_000, 5.0


def run_flood(field: Field, effort: Effort) -> Part:
    """As fast as the provider can: reads of the socket hold many chunks."""
    load = Load(port=0, paths=PATH, model="canned-256", stream=True, clients=STREAMS, warmup=1.0)
    return _chunks(field, take(field, load, effort, field.subjects), "as fast as it goes", load.model)


def run_single(field: Field, effort: Effort) -> Part:
    """A chunk every 5 ms on each stream, 12,800/s offered: chunks come one by one, as they do from a model."""
    load = Load(port=0, paths=PATH, model="canned-256-5ms", stream=True, clients=STREAMS, stagger=1.3, warmup=1.5)
    return _chunks(field, take(field, load, effort, field.subjects), "12,800 chunks/s offered one by one", load.model)


def run_first(field: Field, effort: Effort) -> Part:
    """The time to the first token, where the provider sends its first at once and then one every 20 ms."""
    load = Load(port=0, paths=PATH, model="canned-64-20ms", stream=True, clients=PACED, stagger=1.3, warmup=1.4)
    taken = take(field, load, effort, field.subjects)
    firsts = {rounds.subject.name: (rounds.median(lambda one: one.result.first_p50), _p95(rounds)) for rounds in taken}
    base = firsts[field.forward.name]
    rows = tuple(
        (name, number(p50), number(p95), f"{p50 - base[0]:+.2f}", f"{p95 - base[1]:+.2f}")
        for name, (p50, p95) in firsts.items()
    )
    aims: tuple[Aim, ...] = ()
    if field.service:
        added = tuple(mine - floor for mine, floor in zip(firsts[field.service.name], base, strict=True))
        what = f"first token, {field.kind}: ≤ 5 ms added (p50 and p95)"
        aims = (Aim(what, f"{added[0]:.2f} and {added[1]:.2f} ms", max(added) <= AIM_FIRST_MS),)
    columns = ("", "p50 ms", "p95 ms", "added p50", "added p95")
    return Part(f"First token, {field.kind}, {PACED} streams of a chunk every 20 ms", columns, rows, aims)


def _chunks(field: Field, taken: list[Rounds], how: str, model: str) -> Part:
    found = canned.plan(model)
    each = found.chunks if found else 1
    rates = {rounds.subject.name: rounds.median(lambda one: one.chunk_rate) for rounds in taken}
    rows = tuple(
        (
            rounds.subject.name,
            number(rates[rounds.subject.name]),
            percent(rates[rounds.subject.name], rates[field.forward.name]),
            number(rounds.median(lambda one: one.cpu_ms) * 1000 / each),
            percent(rounds.busy, 1),
            number(rounds.median(lambda one: one.result.first_p50)),
            number(rounds.median(lambda one: one.result.first_p95)),
        )
        for rounds in taken
    )
    aims: tuple[Aim, ...] = ()
    if field.service:
        rate = rates[field.service.name]
        what = f"streams, {field.kind}, {how}: ≥ 10,000 journalled chunks/s"
        aims = (Aim(what, f"{rate:,.0f}/s", rate >= AIM_CHUNKS),)
    columns = ("", "chunks/s", "of forward", "CPU µs/chunk", "core busy", "first token p50 ms", "p95 ms")
    return Part(f"Streams, {field.kind}, {STREAMS} at once, {how}", columns, rows, aims)


def _p95(rounds: Rounds) -> float:
    return rounds.median(lambda one: one.result.first_p95)
