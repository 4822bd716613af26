"""Many deaths: at each write of a turn, or at some of them."""

import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.crash.ptrace import MOMENTS, Moment, Point
from tests.crash.trials import NEVER, House, Scenario, Trial

# How often the chosen write must not have come, since the last that did, until the turn surely has no more: their
# number varies a little with what happens to share a commit.
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


class Found(NamedTuple):
    """What came of one trial of a scenario."""

    scenario: Scenario
    trial: Trial


class Series:
    """The points of a scenario at one moment: the first write, the second, … until the turn has none left.

    What was written to a file is seen by nobody else: after one such write is before the next. So the moment after is
    tried where the other side acts on what it got, at the sockets.
    """

    def __init__(self, scenario: Scenario, whole: Trial, moment: Moment) -> None:
        self.scenario = scenario
        files = moment == "after"
        skipped = {at for at, write in enumerate(whole.writes, 1) if files and write.startswith(FILES)}
        self._points = (Point(at, moment) for at in range(1, NEVER.at) if at not in skipped)
        self._missed = 0

    def next(self) -> Point | None:
        """The point to be tried now; None where there are no more."""
        return next(self._points) if self._missed < PAST_THE_END else None

    def add(self, trial: Trial) -> None:
        self._missed = 0 if trial.killed else self._missed + 1


def at_each_write(houses: Sequence[House], scenarios: Iterable[Scenario]) -> list[Found]:
    """A death at each write and each moment of every scenario, in all the houses at once."""
    lock = threading.Lock()
    series: list[Series] = []
    found: list[Found] = []

    def work(house: House) -> None:
        while True:
            with lock:
                chosen = next(((one, point) for one in series if (point := one.next())), None)
            if chosen is None:
                return
            one, point = chosen
            trial = one.scenario(house, point)
            with lock:
                one.add(trial)
                found.append(Found(one.scenario, trial))

    for scenario in scenarios:
        whole = scenario(houses[0], NEVER)
        found.append(Found(scenario, whole))
        series += [Series(scenario, whole, moment) for moment in MOMENTS]
    with ThreadPoolExecutor(len(houses)) as pool:
        list(pool.map(work, houses))
    return found


def at_some_writes(house: House, scenario: Scenario) -> list[Found]:
    """A death at one write of each kind: the first, or one further on; the moments take turns."""
    whole = scenario(house, NEVER)
    found = [Found(scenario, whole)]
    for number, (kind, count) in enumerate(Counter(whole.writes).items()):
        at = 1 if number % 2 else (count * 2 + 2) // 3
        found.append(Found(scenario, scenario(house, Point(at, MOMENTS[number % len(MOMENTS)], of=kind))))
    return found
