"""Many deaths one after the other: at each write of a turn, or at some of them."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.crash.ptrace import MOMENTS, Moment, Point
from tests.crash.trials import NEVER, House, Scenario, Trial

# How often in a row the chosen write must not have come until the turn surely has no more: their number varies a
# little with what happens to share a commit.
PAST_THE_END = 3
FILES = ("database", "wal", "journal")


@dataclass(slots=True)
class Tally:
    """What was seen of a scenario: K, the most writes that a turn took to its end, the deaths, and what they broke."""

    name: str
    most: int = 0
    deaths: int = 0
    by_write: dict[str, int] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)

    def add(self, trial: Trial) -> None:
        if trial.killed:
            self.deaths += 1
            name = f"{trial.point.moment} {trial.writes[-1]}"
            self.by_write[name] = self.by_write.get(name, 0) + 1
        else:
            self.most = max(self.most, len(trial.writes))
        if trial.violations:
            self.violations.append(trial.words)

    @property
    def words(self) -> str:
        found = f"{self.name}: K = {self.most}, deaths {self.deaths}, violations {len(self.violations)}"
        where = ", ".join(f"{name} {times}" for name, times in sorted(self.by_write.items()))
        return f"{found} ({where})"


def at_each_write(scenario: Scenario, house: House, moment: Moment) -> Iterator[Trial]:
    """A death at the first write, the second, … until the turn has none left.

    What was written to a file is seen by nobody else: after one such write is before the next. So the moment after is
    tried where the other side acts on what it got, at the sockets.
    """
    whole = scenario(house, NEVER)
    yield whole
    skipped = {at for at, write in enumerate(whole.writes, 1) if moment == "after" and write.startswith(FILES)}
    at, missed = 0, 0
    while missed < PAST_THE_END:
        at += 1
        if at in skipped:
            continue
        trial = scenario(house, Point(at, moment))
        missed = 0 if trial.killed else missed + 1
        yield trial


def at_some_writes(scenario: Scenario, house: House) -> Iterator[Trial]:
    """A death at one write of each kind: the first, or one further on; the moments take turns."""
    whole = scenario(house, NEVER)
    yield whole
    times = Counter(whole.writes)
    for number, (kind, count) in enumerate(times.items()):
        at = 1 if number % 2 else (count * 2 + 2) // 3
        yield scenario(house, Point(at, MOMENTS[number % len(MOMENTS)], of=kind))
