"""Published prices and context windows, from genai-prices' bundled data; nothing is fetched."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from service.domain.meters import Cost, Meters, Prices, to_nano
from service.providers.base import Model

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice

UNPRICED = Cost(None, "unpriced")
# Prices for what a text turn does not use, or what the meters do not tell apart.
_BESIDE = (
    "web_searches_",
    "storage_searches_",
    "audio_",
    "input_audio_",
    "input_image_",
    "input_mchars",
    "output_audio_",
    "output_image_",
    "cache_audio_",
    "cache_image_",
    "cache_write_1h_",
)
_LINEAR = frozenset({"input_mtok", "output_mtok", "cache_read_mtok", "cache_write_mtok"})


class PriceBook:
    """The bundled price list. It is loaded (0.3 s, some 15 MB) when the first published model is asked for."""

    def __init__(self) -> None:
        self._infos: dict[tuple[str, str], ModelInfo | None] = {}
        self._version = ""

    def cost(self, model: Model, meters: Meters, at: datetime) -> Cost:
        """What a call made at `at` (aware) cost: its own prices first, then the published ones.

        `Cost(None, "unpriced")` where nobody knows both an input and an output price.
        """
        if model.prices is not None:
            return Cost(model.prices.cost(meters), model.price_source, model.price_version)
        info = self._find(model.provider, model.upstream)
        nano = None if info is None else _cost_of(info.get_prices(at), meters)
        return UNPRICED if nano is None else Cost(nano, "genai-prices", self._version)

    def prices(self, model: Model, at: datetime) -> Prices | None:
        """Dollars per million tokens at `at`, those of the lowest tier where tokens cost more in long requests."""
        if model.prices is not None:
            return model.prices
        info = self._find(model.provider, model.upstream)
        return None if info is None else _linear(info.get_prices(at), 0)

    def context(self, provider: str, upstream: str) -> int | None:
        """The context window in tokens."""
        info = self._find(provider, upstream)
        return None if info is None else info.context_window

    def published(self, provider: str) -> list[tuple[str, int | None]]:
        """The provider's own names of all models that are listed and not deprecated, with their context windows."""
        listed = next((entry for entry in self._providers() if entry.id == provider), None)
        models = [] if listed is None else listed.models
        return [(info.id, info.context_window) for info in models if not info.deprecated and _is_priced(info)]

    def _find(self, provider: str, upstream: str) -> ModelInfo | None:
        key = (provider, upstream)
        if key not in self._infos:
            self._infos[key] = self._look_up(provider, upstream)
        return self._infos[key]

    def _look_up(self, provider: str, upstream: str) -> ModelInfo | None:
        from genai_prices import data_snapshot

        # Only a provider of exactly this name: a server called "openai-cache" does not charge what OpenAI does.
        if provider != "litellm" and all(entry.id != provider for entry in self._providers()):
            return None
        try:
            return data_snapshot.get_snapshot().find_provider_model(upstream, None, provider, None)[1]
        except LookupError:
            return None

    def _providers(self) -> list[Any]:
        import genai_prices
        from genai_prices import data_snapshot

        self._version = genai_prices.__version__
        return data_snapshot.get_snapshot().providers


def _cost_of(published: ModelPrice, meters: Meters) -> int | None:
    prices = _linear(published, meters.total_input_tokens)
    if prices is None:
        return None
    if _is_linear(published):
        return prices.cost(meters)
    from genai_prices import Usage

    usage = Usage(
        input_tokens=meters.total_input_tokens,
        cache_read_tokens=meters.cache_read_tokens,
        cache_write_tokens=meters.cache_write_tokens,
        output_tokens=meters.output_tokens,
        output_reasoning_tokens=meters.reasoning_tokens,
    )
    return to_nano(published.calc_price(usage)["total_price"])


def _linear(published: ModelPrice, total_input: int) -> Prices | None:
    """The four prices of the tier that this many input tokens fall into; None unless input and output have one."""
    found = {name: _tier(value, total_input) for name, value in vars(published).items() if name in _LINEAR}
    ask, answer = found.get("input_mtok"), found.get("output_mtok")
    if ask is None or answer is None:
        return None
    return Prices(ask, answer, found.get("cache_read_mtok"), found.get("cache_write_mtok"))


def _tier(price: Any, total_input: int) -> Decimal | None:
    if price is None or isinstance(price, Decimal):
        return price
    tiers = [tier.price for tier in price.tiers if total_input > tier.start]
    return Decimal(tiers[-1] if tiers else price.base)


def _is_linear(published: ModelPrice) -> bool:
    """Whether the four prices say all, so that a multiplication does what genai-prices takes 110 µs for."""
    return all(value is None or name in _LINEAR or name.startswith(_BESIDE) for name, value in vars(published).items())


def _is_priced(info: ModelInfo) -> bool:
    prices = [info.prices] if not isinstance(info.prices, list) else [entry.prices for entry in info.prices]
    return any(_linear(entry, 0) is not None for entry in prices)
