"""The catalogue over HTTP: pages, one model, its configuration and what caches do with it."""

import httpx2
import pytest

from tests.api.steps import ANTHROPIC, OPENAI, call


async def test_the_list_and_its_alias_are_the_same(http: httpx2.AsyncClient) -> None:
    page = await call(http, "GET", "/models", expect=200)
    alias = await call(http, "GET", "/models/list", expect=200)
    assert page["items"] == alias["items"]
    assert (page["limit"], page["skip"], len(page["items"])) == (10, 0, 10)
    assert page["total"] > 10
    ids = [model["id"] for model in page["items"]]
    assert ids == sorted(ids)


async def test_a_model_says_its_window_and_its_prices(http: httpx2.AsyncClient) -> None:
    shown = await call(http, "GET", f"/models/{OPENAI}", expect=200)
    assert (shown["id"], shown["name"], shown["provider"], shown["source"]) == (OPENAI, OPENAI, "openai", "settings")
    assert shown["max_tokens"] > 100_000
    assert shown["prices"] == {"input": "1", "output": "2", "cache_read": None, "cache_write": None}
    assert (await call(http, "GET", f"/models/{ANTHROPIC}", expect=200))["prices"]["output"] == "15"
    assert (await call(http, "GET", "/models/unpriced", expect=200))["prices"] is None
    assert (await call(http, "GET", f"/models/openai/{OPENAI}", expect=200))["id"] == OPENAI


async def test_models_are_chosen_by_provider(http: httpx2.AsyncClient) -> None:
    for provider in ("openai", "anthropic"):
        page = await call(http, "GET", f"/models?provider={provider}&limit=100", expect=200)
        assert {model["provider"] for model in page["items"]} == {provider}
    problem = await call(http, "GET", "/models?provider=nobody", expect=422)
    assert problem["detail"][0]["loc"] == ["query", "provider"]


@pytest.mark.parametrize("suffix", ["", "/config"])
@pytest.mark.parametrize("name", ["nothing-like-it", "openai/nothing/like/it", "%F0%9F%A5%9B", "a%2Fb", "%2e%2e"])
async def test_an_unknown_model_is_named(http: httpx2.AsyncClient, name: str, suffix: str) -> None:
    request = http.build_request("GET", f"/models/x{suffix}")
    request.url = request.url.copy_with(raw_path=f"/models/{name}{suffix}".encode())
    reply = await http.send(request)
    assert reply.status_code == 404
    assert reply.json()["code"] in ("model_not_found", "not_found")
    if "nothing" in name:
        assert (reply.json()["code"], reply.json()["model"]) == ("model_not_found", name)


async def test_an_unchanged_configuration_is_a_304(http: httpx2.AsyncClient) -> None:
    path = f"/models/{OPENAI}/config"
    first = await http.get(path)
    assert first.status_code == 200
    shown = first.json()
    assert (shown["upstream"], shown["provider"]) == (OPENAI, "openai")
    assert shown["defaults"] == {"temperature": 0.7, "max_tokens": 1000}
    tag = first.headers["etag"]
    assert "max-age" in first.headers["cache-control"]
    for sent in (tag, f"W/{tag}", f'"other", {tag}', f'"other",{tag}', "*"):
        again = await http.get(path, headers={"If-None-Match": sent})
        assert (again.status_code, again.content) == (304, b""), sent
        assert again.headers["etag"] == tag
    assert (await http.get(path, headers={"If-None-Match": '"other"'})).status_code == 200
    assert (await http.get(f"/models/{ANTHROPIC}/config")).headers["etag"] != tag


@pytest.mark.parametrize("path", ["/", "/health", "/models", f"/models/{OPENAI}", "/conversations", "/users/me"])
async def test_head_is_get_without_the_body(http: httpx2.AsyncClient, path: str) -> None:
    head, get = await http.head(path), await http.get(path)
    assert (head.status_code, head.content) == (200, b"")
    for name in ("content-type", "content-length", "x-total-count", "link"):
        assert head.headers.get(name) == get.headers.get(name), name
