"""Interleaved rounds: every subject in each round, so that a noisy minute is everybody's, and the median of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import median

from bench import canned
from bench.databases import Stored, stored
from bench.load import Load
from bench.processes import BenchError, Measured, Subject, measure
from bench.subjects import Field


@dataclass(frozen=True, slots=True)
class Effort:
    """How much to measure: seconds of each load, and rounds."""

    seconds: float
    rounds: int


@dataclass(frozen=True, slots=True)
class Rounds:
    """One subject's rounds of one load."""

    subject: Subject
    measured: tuple[Measured, ...]

    def median(self, figure: Callable[[Measured], float]) -> float:
        return median(figure(one) for one in self.measured)

    @property
    def busy(self) -> float:
        """How much of its core the subject used, 0 to 1: near 1 the subject is the limit, else something else is."""
        return self.median(lambda one: one.cpu_seconds / one.result.wall)


def take(field: Field, load: Load, effort: Effort, subjects: Sequence[Subject]) -> list[Rounds]:
    """Loads the subjects in turn, round after round. Raises BenchError for a wrong answer or a turn not stored."""
    load = replace(load, seconds=effort.seconds)
    measured: dict[str, list[Measured]] = {subject.name: [] for subject in subjects}
    for number in range(effort.rounds):
        shift = number % len(subjects)
        for subject in (*subjects[shift:], *subjects[:shift]):
            own = replace(load, port=subject.port, key=subject.key)
            one = _checked(field, subject, own) if subject is field.service else measure(subject, own)
            measured[subject.name].append(one)
    return [Rounds(subject, tuple(measured[subject.name])) for subject in subjects]


def _checked(field: Field, subject: Subject, load: Load) -> Measured:
    """A load of the service after which each answered turn must be in the database, whole, once and accounted."""
    text = canned.text(load.model)
    before = stored(field.url, text)
    one = measure(subject, load)
    rows, answered = stored(field.url, text).since(before), one.result.total
    if rows != Stored(answered, answered, answered):
        raise BenchError(f"{answered} turns were answered, and of those were stored on {field.kind}: {rows}")
    return one
