"""The catalogue: whose models there are under which settings, found by which names."""

import asyncio
import subprocess
import sys
from decimal import Decimal
from typing import Any

import pytest

from service.adapters import build_registry
from service.config import Settings
from service.domain.meters import Prices
from service.errors import NoModelConfigured, UnknownModel
from service.providers import registry as registry_module
from service.providers.overrides import Override
from service.providers.registry import REFRESH_SECONDS, Registry
from tests.providers.raw import CHAT, KEY, RawServer, answer, chunked, collect, make_call, stalled

LIST = {"data": [{"id": "team/small"}, {"id": "big"}]}


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI", "ANTHROPIC", "OPENROUTER", "LITELLM"):
        for what in ("API_KEY", "BASE_URL"):
            monkeypatch.delenv(f"{name}_{what}", raising=False)
            monkeypatch.delenv(f"EVERTURN_{name}_{what}", raising=False)
    monkeypatch.setenv("EVERTURN_LOCAL_MODEL", "off")


def build(**values: Any) -> Registry:
    """The registry of these settings; a name without EVERTURN_ is the environment's own."""
    return build_registry(Settings(**values))


def test_static_models_have_bare_ids_and_openrouters_its_prefix() -> None:
    registry = build(OPENAI_API_KEY=KEY, ANTHROPIC_API_KEY=KEY, OPENROUTER_API_KEY=KEY)
    assert registry.provider_names() == ["openai", "anthropic", "openrouter"]
    ids = [model.id for model in registry.list_models()]
    assert ids == sorted(ids)
    assert {"gpt-4o", "claude-opus-4-5", "openrouter/openai/gpt-4o"} <= set(ids)
    assert not [i for i in ids if "embedding" in i or "whisper" in i or "tts" in i.split("-") or "image" in i]
    assert {model.provider for model in registry.list_models("anthropic")} == {"anthropic"}
    assert registry.get_model("gpt-4o").max_tokens == 128_000
    assert registry.default_model().provider == "openai"


@pytest.mark.parametrize(
    ("asked", "model_id", "upstream"),
    [
        ("gpt-4o", "gpt-4o", "gpt-4o"),
        ("openai/gpt-4o", "gpt-4o", "gpt-4o"),
        ("gpt-4o-2024-11-20", "gpt-4o-2024-11-20", "gpt-4o-2024-11-20"),
        ("openai/gpt-4o-2024-11-20", "gpt-4o-2024-11-20", "gpt-4o-2024-11-20"),
        ("openrouter/openai/gpt-4o", "openrouter/openai/gpt-4o", "openai/gpt-4o"),
    ],
)
def test_model_is_found_by_each_of_its_names(asked: str, model_id: str, upstream: str) -> None:
    model = build(OPENAI_API_KEY=KEY, OPENROUTER_API_KEY=KEY).get_model(asked)
    assert (model.id, model.upstream) == (model_id, upstream)


@pytest.mark.parametrize("name", ["gpt-99", "", "openai/", "gpt-4o-and-more", "anthropic/gpt-4o", "x" * 5000])
def test_unknown_model_is_named(name: str) -> None:
    with pytest.raises(UnknownModel) as caught:
        build(OPENAI_API_KEY=KEY).get_model(name)
    assert name[:200] in caught.value.detail
    assert len(caught.value.detail) < 300


def test_nothing_configured_is_said_clearly() -> None:
    registry = build()
    assert registry.list_models() == []
    with pytest.raises(NoModelConfigured, match="OPENAI_API_KEY"):
        registry.default_model()


def test_default_model_must_be_there() -> None:
    assert build(OPENAI_API_KEY=KEY, default_model="gpt-4.1").default_model().id == "gpt-4.1"
    with pytest.raises(NoModelConfigured, match="'nope'"):
        build(OPENAI_API_KEY=KEY, default_model="nope").default_model()


def test_a_registered_model_takes_no_default_ones_place() -> None:
    declared = ({"id": "m", "provider": "vllm"}, {"id": "n", "provider": "vllm"})
    registry = build(
        OPENAI_API_KEY=KEY,
        providers=[{"name": "vllm", "base_url": "http://127.0.0.1:1/v1"}],
        models=declared,
    )
    for provider in (None, "openai", "vllm"):
        registry.override([])
        before = registry.default_model(provider)
        twins = [Override("a", before.provider, before.upstream), Override("z", before.provider, before.upstream)]
        registry.override([Override("b", before.provider, "another"), *twins])
        assert registry.default_model(provider).id == before.id
    registry.override([Override("m", disabled=True), Override("a", "vllm"), Override("x", "vllm")])
    assert registry.default_model("vllm").id == "n"
    registry.override([Override("m", disabled=True), Override("n", disabled=True), Override("x", "vllm")])
    assert registry.default_model("vllm").id == "x"


def test_declared_models_are_added_and_change_known_ones() -> None:
    declared = (
        {"id": "gpt-4o", "provider": "openai", "input_price": "1", "output_price": "2"},
        {"id": "mine", "provider": "openai", "upstream": "ft:gpt-4o:me", "max_tokens": 9},
        {"id": "gone", "provider": "absent"},
    )
    registry = build(OPENAI_API_KEY=KEY, models=declared)
    model = registry.get_model("gpt-4o")
    assert (model.prices, model.max_tokens) == (Prices(Decimal(1), Decimal(2)), 128_000)
    assert registry.get_model("mine").upstream == "ft:gpt-4o:me"
    with pytest.raises(UnknownModel):
        registry.get_model("gone")


def test_what_a_declared_model_can_do_is_said_or_told_by_its_name() -> None:
    declared = (
        {"id": "gpt-4o", "provider": "openai", "images": False},
        {"id": "mine", "provider": "openai", "images": True, "tools": False, "reasoning": True},
        {"id": "else", "provider": "openai", "upstream": "somebodys/gpt-3.5-turbo-own"},
        {"id": "other", "provider": "openai"},
    )
    registry = build(OPENAI_API_KEY=KEY, models=declared)
    found = {str(one["id"]): registry.get_model(str(one["id"])) for one in declared}
    assert {name: (model.tools, model.images, model.reasoning) for name, model in found.items()} == {
        "gpt-4o": (True, False, False),
        "mine": (False, True, True),
        "else": (True, False, False),
        "other": (None, None, None),
    }


async def test_discovered_models_come_with_start_and_refresh(raw: RawServer) -> None:
    raw.play(answer(LIST))
    further = {"name": "vllm", "base_url": raw.url, "api_key": KEY}
    registry = build(LITELLM_BASE_URL=raw.url, providers=(further,))
    assert registry.list_models() == []
    await registry.refresh()
    assert [m.id for m in registry.list_models()] == [
        "litellm/big",
        "litellm/team/small",
        "vllm/big",
        "vllm/team/small",
    ]
    assert {request.path for request in raw.requests} == {"/models"}
    assert {request.headers.get("authorization") for request in raw.requests} == {f"Bearer {KEY}", None}
    await registry.close()


async def test_unknown_model_is_asked_for_but_not_each_time(raw: RawServer) -> None:
    raw.play(answer(LIST))
    registry = build(LITELLM_BASE_URL=raw.url)
    assert (await registry.find_model("litellm/big")).upstream == "big"
    for _ in range(3):
        with pytest.raises(UnknownModel):
            await registry.find_model("litellm/none")
    assert len(raw.requests) == 1
    raw.play(answer({"data": [{"id": "new"}]}))
    await registry.refresh()
    assert (await registry.find_model("litellm/new")).source == "discovered"
    assert REFRESH_SECONDS > 0
    await registry.close()


async def test_provider_that_is_down_keeps_its_list_and_stops_nothing(raw: RawServer) -> None:
    raw.play(answer(LIST))
    registry = build(OPENAI_API_KEY=KEY, LITELLM_BASE_URL=raw.url)
    await registry.refresh()
    raw.play(answer({}, status=500))
    await registry.refresh()
    assert registry.get_model("litellm/big")
    await registry.start()
    await registry.close()


async def test_provider_that_hangs_holds_nobody_up(raw: RawServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_module, "DISCOVER_SECONDS", 0.1)
    raw.play(stalled())
    registry = build(LITELLM_BASE_URL=raw.url)
    async with asyncio.timeout(5):
        with pytest.raises(UnknownModel):
            await registry.find_model("litellm/big")
    await registry.close()


async def test_provider_of_the_registry_answers(raw: RawServer) -> None:
    raw.play(chunked(*CHAT))
    registry = build(OPENAI_API_KEY=KEY, OPENAI_BASE_URL=raw.url)
    model = registry.get_model("gpt-4o")
    provider = registry.get_provider(model.provider)
    text, _, _ = await collect(provider, make_call(model=model.upstream, max_tokens=3))
    assert text == "Grüße, 🌍!"
    assert raw.requests[-1].body["max_tokens"] == 3
    await registry.close()


def test_no_sdk_is_imported_to_serve() -> None:
    code = (
        "import sys, service.adapters as m, service.config as c; m.build_registry(c.Settings());"
        "print(sorted({n.split('.')[0] for n in sys.modules} & {'openai', 'anthropic', 'httpx2', 'xllamacpp'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("name", "able"),
    [
        ("gpt-4o", (True, True, False)),
        ("gpt-4", (True, False, False)),
        ("gpt-5-mini", (True, True, True)),
        ("o3-mini", (True, False, True)),
        ("claude-sonnet-4-5", (True, True, True)),
        ("openrouter/anthropic/claude-3.7-sonnet", (True, True, True)),
        ("openrouter/deepseek/deepseek-r1-distill-llama-70b", (None, None, None)),
    ],
)
def test_a_model_says_what_it_can_do_where_that_is_known(name: str, able: tuple[bool | None, ...]) -> None:
    model = build(OPENAI_API_KEY=KEY, ANTHROPIC_API_KEY=KEY, OPENROUTER_API_KEY=KEY).get_model(name)
    assert (model.tools, model.images, model.reasoning) == able


def test_an_alias_costs_what_was_known_whatever_order_overrides_come_in() -> None:
    free = Prices(Decimal(0), Decimal(0))
    repriced = Override("gpt-4o", prices=free, price_version="7")
    alias, moved = Override("a", "openai", "gpt-4o"), Override("o1", "openai", "gpt-4o-mini")
    for overrides in ([repriced, alias, moved], [moved, alias, repriced]):
        registry = build(OPENAI_API_KEY=KEY)
        registry.override(overrides)
        assert (registry.get_model("gpt-4o").prices, registry.get_model("gpt-4o").price_version) == (free, "7")
        assert registry.get_model("openai/gpt-4o") == registry.get_model("gpt-4o")
        assert (registry.get_model("a").prices, registry.get_model("a").max_tokens) == (None, 128_000)
        assert registry.get_model("o1").upstream == registry.get_model("openai/gpt-4o-mini").upstream == "gpt-4o-mini"
        assert registry.get_model("openai/gpt-4o-mini").id == "gpt-4o-mini"
        with pytest.raises(UnknownModel):
            registry.get_model("openai/o1")
        registry.override([])
        assert registry.get_model("openai/o1").prices is None


def test_an_override_of_what_nobody_knows_changes_nothing() -> None:
    registry = build(OPENAI_API_KEY=KEY)
    before = registry.list_models()
    registry.override([Override("gone", max_tokens=5), Override("gpt-4o", "elsewhere"), Override("x", "elsewhere")])
    assert registry.list_models() == before
