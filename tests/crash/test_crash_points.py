"""A service killed at each of its writes, on both databases: nothing lost, doubled, stuck or unaccounted."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

import pytest

from tests.conftest import Kind
from tests.crash.chains import Found, Tally, at_each_write, at_some_writes
from tests.crash.conftest import MakeHouse
from tests.crash.ptrace import why_not
from tests.crash.trials import Scenario, folded, recovered, streamed

pytestmark = pytest.mark.skipif(why_not() is not None, reason=why_not() or "")

SCENARIOS: dict[Scenario, str] = {streamed: "streamed", folded: "folded", recovered: "recovered"}
# Most of a trial's time is waiting for a lease to be looked at.
AT_ONCE = 5


def test_death_at_some_writes_breaks_no_promise(
    kind: Kind, make_house: MakeHouse, report: Callable[[str], None]
) -> None:
    scenarios = [streamed, folded]
    with ThreadPoolExecutor(len(scenarios)) as pool:
        found = list(pool.map(at_some_writes, [make_house() for _ in scenarios], scenarios))
    _judge(kind, chain.from_iterable(found), report)


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_death_at_each_write_breaks_no_promise(
    kind: Kind, make_house: MakeHouse, report: Callable[[str], None]
) -> None:
    _judge(kind, at_each_write([make_house() for _ in range(AT_ONCE)], SCENARIOS), report)


def _judge(kind: Kind, found: Iterable[Found], report: Callable[[str], None]) -> None:
    tallies: dict[Scenario, Tally] = {}
    for scenario, trial in found:
        tallies.setdefault(scenario, Tally(f"{kind} {SCENARIOS[scenario]}")).add(trial)
    for tally in tallies.values():
        report(tally.words)
    for tally in tallies.values():
        assert tally.most > 10, f"{tally.name}: the writes are not seen"
        assert tally.deaths > 0, f"{tally.name}: nothing died"
    broken = [f"{tally.name}, {words}" for tally in tallies.values() for words in tally.violations]
    assert not broken, "\n".join(broken)
