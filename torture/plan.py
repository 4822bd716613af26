"""What a run is to be: its database, how many turns, how long, and the seed from which every choice follows."""

import random
from dataclasses import dataclass
from typing import Literal

Kind = Literal["sqlite", "postgres"]
KINDS: tuple[Kind, ...] = ("sqlite", "postgres")

# A lease as short as the service takes: what is lost is found again within a lease and a third.
LEASE_SECONDS = 3
DRAIN_SECONDS = 2
TOTAL_SECONDS = 6
# So soon after a turn's end its journal is folded, as otherwise a day after it.
JOURNAL_SECONDS = 4
POOL = 5


@dataclass(frozen=True, slots=True)
class Plan:
    """One run. It ends when so many turns were accepted and so many faults struck, or so many seconds are over.

    `every` is the mean of the seconds between two strokes of each nemesis; 0 is peace.
    """

    kind: Kind
    seed: int
    turns: int
    seconds: float
    workers: int = 3
    talkers: int = 48
    faults: int = 0
    every: float = 1.5


@dataclass(frozen=True, slots=True)
class Priced:
    """A model that the service is told of. Prices are dollars per million tokens, as strings; None is unpriced."""

    provider: str
    name: str
    input: str | None = None
    output: str | None = None
    cache_read: str | None = None
    cache_write: str | None = None

    @property
    def id(self) -> str:
        return f"{self.provider}/{self.name}"


# Providers by their wire; all of them are one server. Prices have odd decimals, so that rounding shows.
PROVIDERS = {"alpha": "openai", "beta": "anthropic", "gamma": "openai"}
MODELS = (
    Priced("alpha", "rack", "0.1535", "0.6025", "0.0185", "0.1915"),
    Priced("beta", "wheel", "2.9995", "14.0005", "0.3005", "3.7505"),
    Priced("gamma", "boot", "0.0005", "0.0015"),
    Priced("gamma", "free", "0", "0"),
    Priced("alpha", "nameless"),
)


def dice(*names: object) -> random.Random:
    """Chance that is the same for the same names, in every process."""
    return random.Random("/".join(map(str, names)))
