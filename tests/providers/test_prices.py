"""Prices: the fast sum is genai-prices' own, own prices win, and nobody's price is never zero."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from genai_prices import Usage, __version__, calc_price, data_snapshot
from hypothesis import given, settings
from hypothesis import strategies as st

from service.domain.meters import Cost, Meters, Prices, to_nano
from service.providers.base import Model
from service.providers.local import LOCAL_MODEL
from service.providers.prices import UNPRICED, PriceBook

BOOK = PriceBook()
AT = datetime(2026, 6, 1, 12, tzinfo=UTC)
MODELS = [
    (entry.id, info.id)
    for entry in data_snapshot.get_snapshot().providers
    if entry.id in ("openai", "anthropic", "openrouter")
    for info in entry.models
]
tokens = st.integers(0, 400_000)


def make_model(provider: str, upstream: str, prices: Prices | None = None) -> Model:
    return Model(upstream, provider, upstream, "genai-prices", prices=prices)


@settings(max_examples=300, deadline=None)
@given(
    which=st.sampled_from(MODELS),
    counts=st.tuples(tokens, tokens, tokens, tokens, tokens),
    hour=st.integers(0, 24 * 900),
)
def test_cost_is_what_genai_prices_says(which: tuple[str, str], counts: tuple[int, ...], hour: int) -> None:
    asked, read, written, answered, reasoned = counts
    meters = Meters(asked, read, written, answered, min(answered, reasoned))
    at = datetime.fromtimestamp(1_710_000_000 + hour * 3600, UTC)
    cost = BOOK.cost(make_model(*which), meters, at)
    if cost.nano is not None:
        usage = Usage(
            input_tokens=meters.total_input_tokens,
            cache_read_tokens=read,
            cache_write_tokens=written,
            output_tokens=answered,
            output_reasoning_tokens=meters.reasoning_tokens,
        )
        expected = calc_price(usage, which[1], provider_id=which[0], genai_request_timestamp=at)
        assert cost == Cost(to_nano(expected.total_price), "genai-prices", __version__)


def test_most_models_have_a_price() -> None:
    costs = [BOOK.cost(make_model("openai", name), Meters(10, 0, 0, 10), AT) for name in ("gpt-4o", "o3", "gpt-5-mini")]
    assert all(cost.nano for cost in costs)


@pytest.mark.parametrize(
    ("provider", "upstream"),
    [("openai", "no-such-model"), ("my-openai-cache", "gpt-4o"), ("litellm", "own"), ("openai", "moderation")],
)
def test_unknown_price_is_none_and_never_zero(provider: str, upstream: str) -> None:
    assert BOOK.cost(make_model(provider, upstream), Meters(10, 0, 0, 10), AT) == UNPRICED == Cost(None, "unpriced")


def test_litellm_names_the_provider_in_the_model() -> None:
    meters = Meters(1000, 0, 0, 1000)
    through = BOOK.cost(make_model("litellm", "openai/gpt-4o"), meters, AT)
    assert through == BOOK.cost(make_model("openai", "gpt-4o"), meters, AT)


def test_own_price_wins_and_a_local_model_is_free() -> None:
    own = Prices(Decimal("2.5"), Decimal(10))
    meters = Meters(1_000_000, 0, 0, 1)
    assert BOOK.cost(make_model("openai", "gpt-4o", own), meters, AT) == Cost(2_500_010_000, "settings")
    assert BOOK.cost(LOCAL_MODEL, meters, AT) == Cost(0, "local")


def test_context_window_is_known() -> None:
    assert BOOK.context("openai", "gpt-4o") == 128_000
    assert BOOK.context("nobody", "gpt-4o") is None
