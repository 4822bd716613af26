"""A service killed at each of its writes, on both databases: nothing lost, doubled, stuck or unaccounted."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import pytest

from tests.conftest import Kind
from tests.crash.chains import Tally, at_each_write, at_some_writes
from tests.crash.conftest import MakeHouse
from tests.crash.ptrace import MOMENTS, why_not
from tests.crash.trials import Scenario, Trial, folded, recovered, streamed

pytestmark = pytest.mark.skipif(why_not() is not None, reason=why_not() or "")

SCENARIOS: dict[str, Scenario] = {"streamed": streamed, "folded": folded, "recovered": recovered}
# Most of a chain's time is waiting for a lease to be looked at.
AT_ONCE = 5


def test_death_at_some_writes_breaks_no_promise(
    kind: Kind, make_house: MakeHouse, report: Callable[[str], None]
) -> None:
    chains = [(name, at_some_writes(SCENARIOS[name], make_house())) for name in ("streamed", "folded")]
    _judge(_run(kind, chains), report)


@pytest.mark.slow
def test_death_at_each_write_breaks_no_promise(
    kind: Kind, make_house: MakeHouse, report: Callable[[str], None]
) -> None:
    chains = [
        (name, at_each_write(scenario, make_house(), moment))
        for (name, scenario), moment in product(SCENARIOS.items(), MOMENTS)
    ]
    _judge(_run(kind, chains), report)


def _run(kind: Kind, chains: list[tuple[str, Iterator[Trial]]]) -> list[Tally]:
    """All chains, some of them at once; a tally for each scenario."""
    tallies = {name: Tally(f"{kind} {name}") for name, _ in chains}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        running = [(name, pool.submit(list[Trial], trials)) for name, trials in chains]
        for name, chain in running:
            for trial in chain.result():
                tallies[name].add(trial)
    return list(tallies.values())


def _judge(tallies: list[Tally], report: Callable[[str], None]) -> None:
    for tally in tallies:
        report(tally.words)
    for tally in tallies:
        assert tally.most > 10, f"{tally.name}: the writes are not seen"
        assert tally.deaths > 0, f"{tally.name}: nothing died"
    broken = [f"{tally.name}, {words}" for tally in tallies for words in tally.violations]
    assert not broken, "\n".join(broken)
