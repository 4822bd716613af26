"""What a model call used, in disjoint meters, and what that costs in nano-dollars."""

from dataclasses import astuple, dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from hashlib import sha256

BILLION = 1_000_000_000
NANO = Decimal(BILLION)
MILLION = Decimal(1_000_000)


@dataclass(frozen=True, slots=True)
class Meters:
    """Tokens of one call. Disjoint but for `reasoning_tokens`, which are part of `output_tokens`.

    Total input is `input_tokens + cache_read_tokens + cache_write_tokens`.
    """

    input_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0

    def __add__(self, other: "Meters") -> "Meters":
        return Meters(*(getattr(self, name) + getattr(other, name) for name in Meters.__slots__))

    @property
    def total_input_tokens(self) -> int:
        return self.input_tokens + self.cache_read_tokens + self.cache_write_tokens


@dataclass(frozen=True, slots=True)
class Prices:
    """Dollars per million tokens. A cache price that is None counts as the input price."""

    input: Decimal
    output: Decimal
    cache_read: Decimal | None = None
    cache_write: Decimal | None = None

    @property
    def digest(self) -> str:
        """Names these prices in a ledger entry, where nobody counts their versions."""
        said = ("-" if price is None else format(price.normalize(), "f") for price in astuple(self))
        return sha256("/".join(said).encode()).hexdigest()[:12]

    def cost(self, meters: Meters) -> int:
        """The cost in nano-dollars, rounded half to even once, at the end."""
        read = self.input if self.cache_read is None else self.cache_read
        write = self.input if self.cache_write is None else self.cache_write
        dollars = (
            self.input * meters.input_tokens
            + read * meters.cache_read_tokens
            + write * meters.cache_write_tokens
            + self.output * meters.output_tokens
        ) / MILLION
        return to_nano(dollars)


@dataclass(frozen=True, slots=True)
class Cost:
    """`nano` is None where nobody knows a price. `source` and `version` say whose price it was."""

    nano: int | None
    source: str
    version: str = ""


@dataclass(frozen=True, slots=True)
class Use:
    """What one call or several used and cost; `counted_by` is `provider`, `partial` or `estimated`."""

    meters: Meters = Meters()
    cost: Cost = Cost(0, "none")
    counted_by: str = "estimated"

    def __add__(self, other: "Use") -> "Use":
        """Both together, under the other's name. What has a part without a price has none."""
        nanos = (self.cost.nano, other.cost.nano)
        nano = None if None in nanos else sum(one for one in nanos if one is not None)
        return Use(self.meters + other.meters, Cost(nano, other.cost.source, other.cost.version), other.counted_by)


def to_nano(dollars: Decimal) -> int:
    """Dollars as an integer of nano-dollars."""
    return int((dollars * NANO).to_integral_value(rounding=ROUND_HALF_EVEN))


def to_dollars(nano: int | None) -> str | None:
    """Nano-dollars as an exact decimal string without an exponent: 1500 → "0.0000015"."""
    if nano is None:
        return None
    whole, part = divmod(abs(nano), BILLION)
    sign = "-" if nano < 0 else ""
    return f"{sign}{whole}.{part:09d}".rstrip("0").rstrip(".") if part else f"{sign}{whole}"
