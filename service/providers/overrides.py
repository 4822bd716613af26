"""What an administrator said about models while the service ran, laid over what else is known of them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from service.domain.meters import Prices
from service.providers.base import Model

SAID = ("max_tokens", "max_output_tokens", "tools", "images", "reasoning", "fallbacks")


@dataclass(frozen=True, slots=True)
class Override:
    """A registered model, or changes of a known one: what is None is not changed.

    `upstream` None is the known one's, or the id without its provider. `price_version` names these prices.
    """

    id: str
    provider: str | None = None
    upstream: str | None = None
    max_tokens: int | None = None
    max_output_tokens: int | None = None
    prices: Prices | None = None
    price_version: str = ""
    tools: bool | None = None
    images: bool | None = None
    reasoning: bool | None = None
    fallbacks: tuple[str, ...] | None = None
    disabled: bool = False


@dataclass(frozen=True, slots=True)
class Index:
    """The catalogue by the models' ids, by `<provider>/<upstream>`, and those that are switched off."""

    by_id: dict[str, Model]
    by_upstream: dict[str, Model]
    disabled: dict[str, Model]


def lay(known: Index, overrides: Iterable[Override], make: Callable[[str, str, str], Model]) -> Index:
    """What is known with the overrides over it, in whatever order; `make(id, provider, upstream)` makes a bare model.

    An override that names no provider, of a model that nobody knows now, changes nothing.
    """
    index = Index(dict(known.by_id), dict(known.by_upstream), {})
    for over in overrides:
        before = known.by_id.get(over.id)
        provider = over.provider or (before and before.provider)
        if not provider:
            continue
        upstream = over.upstream or _upstream(over.id, provider, before)
        base = before if before and _name(before) == f"{provider}/{upstream}" else None
        base = base or known.by_upstream.get(f"{provider}/{upstream}") or make(over.id, provider, upstream)
        _put(index, before, _changed(base, over), over.disabled)
    return index


def _put(index: Index, before: Model | None, model: Model, disabled: bool) -> None:
    index.by_id.pop(model.id, None)
    if before is not None and index.by_upstream[_name(before)].id == model.id:
        del index.by_upstream[_name(before)]
    if disabled:
        index.disabled[model.id] = model
        return
    index.by_id[model.id] = model
    index.by_upstream.setdefault(_name(model), model)


def _name(model: Model) -> str:
    return f"{model.provider}/{model.upstream}"


def _upstream(model_id: str, provider: str, known: Model | None) -> str:
    return known.upstream if known and known.provider == provider else model_id.removeprefix(f"{provider}/")


def _changed(base: Model, over: Override) -> Model:
    said = {name: getattr(over, name) for name in SAID}
    changes = {name: value for name, value in said.items() if value is not None}
    model = replace(base, id=over.id, source="database", **changes)
    if over.prices is None:
        return model
    return replace(model, prices=over.prices, price_source="database", price_version=over.price_version)
