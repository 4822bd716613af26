"""JSON turns: stored turns a second and their times at 16 clients, against both floors."""

from __future__ import annotations

from bench.load import Load
from bench.report import Aim, Part, number, percent
from bench.rounds import Effort, take
from bench.subjects import Field

CLIENTS = 16
AIM = 0.30


def run(field: Field, effort: Effort) -> Part:
    """`POST /chat/completions` in a closed loop; every stored turn is counted in the database afterwards."""
    load = Load(port=0, paths=("/chat/completions",), model="canned-64", clients=CLIENTS)
    taken = take(field, load, effort, field.subjects)
    rates = {rounds.subject.name: rounds.median(lambda one: one.rate) for rounds in taken}
    forward, storing = rates[field.forward.name], rates[field.storing.name]
    rows = tuple(
        (
            rounds.subject.name,
            number(rates[rounds.subject.name]),
            percent(rates[rounds.subject.name], forward),
            percent(rates[rounds.subject.name], storing),
            number(rounds.median(lambda one: one.result.p50)),
            number(rounds.median(lambda one: one.result.p99)),
            number(rounds.median(lambda one: one.cpu_ms)),
            percent(rounds.busy, 1),
        )
        for rounds in taken
    )
    aims: tuple[Aim, ...] = ()
    if field.service:
        ratio = rates[field.service.name] / storing
        aims = (Aim(f"stored JSON turns, {field.kind}: ≥ 30 % of its floor", f"{100 * ratio:.0f} %", ratio >= AIM),)
    return Part(
        f"JSON turns, {field.kind}, {CLIENTS} clients",
        ("", "turns/s", "of forward", "of forward + store", "p50 ms", "p99 ms", "CPU ms/turn", "core busy"),
        rows,
        aims,
    )
