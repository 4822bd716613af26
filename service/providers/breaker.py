"""A circuit breaker for each provider: one that keeps failing is left alone for a while, then tried by one call."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Literal

from prometheus_client import Gauge

from service.providers.base import FailureKind, ProviderFailure

State = Literal["closed", "half_open", "open"]

# What says that the provider is down. A limit or a refused request says nothing about it.
COUNTED: frozenset[FailureKind] = frozenset({"overloaded", "server_error", "unreachable", "timeout"})
NOT_CALLED: frozenset[FailureKind] = frozenset({"circuit_open", "unreadable"})
LONGEST = 8.0
STATES: tuple[State, ...] = ("closed", "half_open", "open")

STATE = Gauge(
    "everturn_provider_circuit_state",
    "The provider's circuit in this worker: 0 closed, 1 half open, 2 open.",
    ["provider"],
    multiprocess_mode="max",
)


@dataclass(frozen=True, slots=True)
class Tolerance:
    """A circuit opens after so many failures in a row (0: never), for so many seconds at first."""

    failures: int = 5
    seconds: float = 10.0


class Breaker:
    """The circuit of one provider in one worker. Each failed trial doubles the time until the next, up to 8 times."""

    def __init__(self, provider: str, tolerance: Tolerance) -> None:
        self._provider = provider
        self._tolerance = tolerance
        self._failures = 0
        self._openings = 0
        self._until = 0.0
        self._trying = False
        self._show()

    @property
    def state(self) -> State:
        if not self._openings:
            return "closed"
        return "open" if monotonic() < self._until else "half_open"

    @contextmanager
    def call(self) -> Iterator[None]:
        """Around a call to the provider. Raises ProviderFailure at once while the circuit is open."""
        trial = self._admit()
        try:
            yield
        except ProviderFailure as failure:
            if failure.kind in COUNTED:
                self._fail(trial=trial)
            elif failure.kind not in NOT_CALLED:
                self.succeed()
            raise
        finally:
            if trial:
                self._trying = False

    def succeed(self) -> None:
        """The provider answers."""
        self._failures = self._openings = 0
        self._show()

    def _admit(self) -> bool:
        """Whether this call is the trial of a half-open circuit. Raises ProviderFailure."""
        state = self.state
        if state == "closed":
            return False
        if state == "open" or self._trying:
            left = max(self._until - monotonic(), 1.0)
            detail = f"{self._provider} failed several times in a row and is left alone for now"
            raise ProviderFailure("circuit_open", detail, retry_after=left)
        self._trying = True
        self._show()
        return True

    def _fail(self, *, trial: bool) -> None:
        if self._openings and not trial:
            # It was under way when the circuit opened: that is known already.
            return
        self._failures += 1
        if self._tolerance.failures and (self._openings or self._failures >= self._tolerance.failures):
            self._until = monotonic() + self._tolerance.seconds * min(2.0**self._openings, LONGEST)
            self._openings += 1
        self._show()

    def _show(self) -> None:
        STATE.labels(self._provider).set(STATES.index(self.state))
