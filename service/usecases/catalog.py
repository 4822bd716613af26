"""The catalogue: which models can be asked, what they take and what they cost."""

from bisect import bisect_left, bisect_right
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from pydantic_core import to_json

from service.domain.cursors import Cursors
from service.domain.meters import Prices
from service.domain.paging import Ask, Page
from service.errors import BadCursor, UnknownModel, Unprocessable
from service.providers.base import Model
from service.providers.registry import Registry

DEFAULTS: dict[str, float | int] = {"temperature": 0.7, "max_tokens": 1000}


@dataclass(frozen=True, slots=True)
class Entry:
    """A model as the catalogue shows it; `prices` are those in force, in exact dollars per million tokens."""

    id: str
    name: str
    provider: str
    max_tokens: int | None
    max_output_tokens: int | None
    prices: dict[str, str | None] | None
    streaming: bool | None
    tools: bool | None
    images: bool | None
    reasoning: bool | None
    fallbacks: tuple[str, ...]
    source: str
    disabled: bool = False


@dataclass(frozen=True, slots=True)
class Config:
    """A model's effective configuration and the ETag that names this state of it."""

    etag: str
    fields: dict[str, Any]


class Catalog:
    def __init__(self, registry: Registry, cursors: Cursors) -> None:
        self._registry = registry
        self._cursors = cursors

    def page(self, provider: str | None, ask: Ask, *, disabled: bool = False) -> Page[Entry]:
        """A page of models by id, of one provider or of all; or of those that are switched off.

        Raises Unprocessable, BadCursor.
        """
        if provider is not None:
            self._check_provider(provider, ("query", "provider"))
        models = self._registry.list_models(provider, disabled=disabled)
        scope = f"models:{provider}:{disabled}"
        first, last = self._span([model.id for model in models], scope, ask)
        chosen = models[first:last]
        return Page(
            [self._entry(model, disabled) for model in chosen],
            None if ask.cursor else len(models),
            0 if ask.cursor else ask.skip,
            ask.limit,
            self._cursors.seal(scope, [chosen[-1].id], False) if chosen and last < len(models) else None,
            self._cursors.seal(scope, [chosen[0].id], True) if chosen and first > 0 else None,
        )

    async def get(self, model_id: str) -> Entry:
        """Raises UnknownModel."""
        return self._entry(await self._registry.find_model(model_id))

    def shown(self, model_id: str) -> Entry:
        """A model that was just changed, also one that is switched off. Raises UnknownModel."""
        for model in self._registry.list_models(disabled=True):
            if model.id == model_id:
                return self._entry(model, True)
        return self._entry(self._registry.get_model(model_id))

    async def config(self, model_id: str) -> Config:
        """Raises UnknownModel."""
        model = await self._registry.find_model(model_id)
        shown = asdict(self._entry(model)) | {
            "upstream": model.upstream,
            "price_source": model.price_source if model.prices else None,
            "price_version": model.price_version if model.prices else None,
            "refused_parameters": sorted(model.refused_parameters),
            "defaults": DEFAULTS,
        }
        return Config(f'"{sha256(to_json(shown)).hexdigest()[:32]}"', shown)

    async def choose(self, provider: str, name: str | None) -> str:
        """The id of a provider's model, by any of its names, or of the provider's first.

        Raises Unprocessable for a provider that is not configured, UnknownModel, NoModelConfigured.
        """
        self._check_provider(provider, ("path", "provider"))
        if name is None:
            return self._spelled(self._registry.default_model(provider))
        for spelled in (f"{provider}/{name}", name):
            with suppress(UnknownModel):
                model = await self._registry.find_model(spelled)
                if model.provider == provider:
                    return self._spelled(model)
        raise UnknownModel(f"The provider {provider} has no model {name[:200]!r}.", facts={"model": name[:200]})

    def _spelled(self, model: Model) -> str:
        """A name that finds this very model: another provider's may go by the same id."""
        return model.id if self._registry.known_model(model.id) == model else f"{model.provider}/{model.upstream}"

    def _check_provider(self, name: str, loc: tuple[str, ...]) -> None:
        if name not in self._registry.provider_names():
            known = ", ".join(self._registry.provider_names()) or "none is configured"
            raise Unprocessable(f"Unknown provider; known: {known}.", loc=loc)

    def _span(self, ids: list[str], scope: str, ask: Ask) -> tuple[int, int]:
        """Which of the sorted ids are asked for: first, and the one after the last."""
        if not ask.cursor:
            return ask.skip, ask.skip + ask.limit
        try:
            (key,), backwards = self._cursors.open(scope, ask.cursor)
        except ValueError as error:
            raise BadCursor from error
        if backwards:
            end = bisect_left(ids, str(key))
            return max(0, end - ask.limit), end
        start = bisect_right(ids, str(key))
        return start, start + ask.limit

    def _entry(self, model: Model, disabled: bool = False) -> Entry:
        prices = self._registry.prices(model, datetime.now(UTC))
        said = ("max_tokens", "max_output_tokens", "streaming", "tools", "images", "reasoning", "fallbacks")
        same = ("provider", *said, "source")
        return Entry(
            id=model.id,
            name=model.id.rpartition("/")[2],
            prices=None if prices is None else _exact(prices),
            disabled=disabled,
            **{name: getattr(model, name) for name in same},
        )


def _exact(prices: Prices) -> dict[str, str | None]:
    values = {one.name: getattr(prices, one.name) for one in fields(Prices)}
    return {name: None if value is None else format(value.normalize(), "f") for name, value in values.items()}
