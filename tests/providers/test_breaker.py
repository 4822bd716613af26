"""A provider's circuit: what opens it, the one trial after a while, what closes it."""

import asyncio
from time import monotonic

import pytest
from prometheus_client import REGISTRY

from service.providers.base import FailureKind, ProviderFailure
from service.providers.breaker import Breaker, State, Tolerance
from tests.patience import until

SECONDS = 0.05


@pytest.fixture
def breaker(request: pytest.FixtureRequest) -> Breaker:
    return Breaker(request.node.name, Tolerance(failures=3, seconds=SECONDS))


def fail(breaker: Breaker, kind: FailureKind = "overloaded") -> ProviderFailure:
    """A call that fails, or that is not let through."""
    with pytest.raises(ProviderFailure) as caught, breaker.call():
        raise ProviderFailure(kind, "as planned")
    return caught.value


def shown(breaker: Breaker) -> float | None:
    return REGISTRY.get_sample_value("everturn_provider_circuit_state", {"provider": breaker._provider})


async def half_open(breaker: Breaker) -> None:
    async def so() -> bool:
        return breaker.state == "half_open"

    await until(so, "the time to be over")


def test_it_opens_after_failures_in_a_row(breaker: Breaker) -> None:
    for _ in range(2):
        fail(breaker)
    with breaker.call():
        breaker.succeed()
    states: list[State] = []
    for _ in range(3):
        fail(breaker)
        states.append(breaker.state)
    assert states == ["closed", "closed", "open"]
    refused = fail(breaker)
    assert (refused.kind, refused.retryable) == ("circuit_open", True)
    assert refused.retry_after
    assert shown(breaker) == 2


@pytest.mark.parametrize("kind", ["rate_limited", "refused", "misconfigured", "truncated", "malformed"])
def test_what_an_answering_provider_says_does_not_open_it(breaker: Breaker, kind: FailureKind) -> None:
    for _ in range(10):
        fail(breaker, kind)
    assert breaker.state == "closed"


def test_an_image_that_cannot_be_read_says_nothing_about_the_provider(breaker: Breaker) -> None:
    kinds: tuple[FailureKind, ...] = ("overloaded", "unreadable", "overloaded", "unreadable", "overloaded")
    states: list[State] = []
    for kind in kinds:
        fail(breaker, kind)
        states.append(breaker.state)
    assert states == ["closed"] * 4 + ["open"]


async def test_one_trial_is_let_through_and_closes_it(breaker: Breaker) -> None:
    for _ in range(3):
        fail(breaker)
    await half_open(breaker)
    with breaker.call():
        assert shown(breaker) == 1
        assert fail(breaker).kind == "circuit_open"
        breaker.succeed()
        assert breaker.state == "closed"
        with breaker.call():
            assert shown(breaker) == 0


async def test_a_trial_that_is_given_up_makes_way_for_another(breaker: Breaker) -> None:
    for _ in range(3):
        fail(breaker)
    await half_open(breaker)
    with pytest.raises(asyncio.CancelledError), breaker.call():
        raise asyncio.CancelledError
    with breaker.call():
        breaker.succeed()
    assert breaker.state == "closed"


def test_each_failed_trial_doubles_the_time_up_to_eightfold() -> None:
    breaker = Breaker("doubling", Tolerance(failures=3, seconds=100))
    times = []
    for _ in range(3):
        fail(breaker)
    for _ in range(5):
        breaker._until = 0.0
        fail(breaker)
        times.append(round((breaker._until - monotonic()) / 100))
    assert times == [2, 4, 8, 8, 8]


async def test_calls_that_were_under_way_when_it_opened_open_it_once() -> None:
    """A provider with a hundred streams goes down: that is one outage, not a hundred."""
    breaker, down = Breaker("crowded", Tolerance(failures=3, seconds=100)), asyncio.Event()

    async def run() -> None:
        with breaker.call():
            await down.wait()
            raise ProviderFailure("unreachable", "as planned")

    calls = [asyncio.create_task(run()) for _ in range(100)]
    await asyncio.sleep(0)
    down.set()
    ends = await asyncio.gather(*calls, return_exceptions=True)
    assert [end.kind for end in ends if isinstance(end, ProviderFailure)] == ["unreachable"] * 100
    assert 99 < breaker._until - monotonic() < 101


def test_none_opens_that_tolerates_everything() -> None:
    breaker = Breaker("patient", Tolerance(failures=0))
    for _ in range(100):
        fail(breaker)
    assert breaker.state == "closed"
