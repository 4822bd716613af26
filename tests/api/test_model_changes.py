"""Models that an admin registers, re-prices and switches off over HTTP."""

import asyncio
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from secrets import token_hex
from typing import Any

import httpx2
import pytest
from llmock.pytest_plugin import LLMock
from llmock.testing import LLMockServer

from tests.api.steps import ANTHROPIC, OPENAI, Json, ask_anew, call
from tests.conftest import MakeDatabase, People, Running, admin_key_for, service_environment
from tests.servers.service import Service

PRICES = {"input": "0.000000001", "output": "1000000", "cache_read": "0.5", "cache_write": None}


def unique() -> str:
    return f"team/{token_hex(5)}"


async def register(people: People, **fields: object) -> Json:
    body = {"id": unique(), "provider": "openai", "upstream": OPENAI, **fields}
    made: Json = await call(people.admin, "POST", "/models", body, expect=201)
    return made


async def test_a_registered_model_is_shown_and_asked(people: People, llmock: LLMock) -> None:
    body = {
        "id": unique(),
        "provider": "openai",
        "upstream": "house-9",
        "max_tokens": 5000,
        "prices": PRICES,
        "tools": True,
    }
    reply = await people.admin.post("/models", json=body)
    made = reply.json()
    assert (reply.status_code, reply.headers["location"]) == (201, f"/models/{body['id']}")
    assert (made["id"], made["provider"], made["max_tokens"], made["tools"]) == (body["id"], "openai", 5000, True)
    assert (made["prices"], made["source"], made["images"]) == (PRICES, "database", None)
    assert await call(people.owner, "GET", reply.headers["location"], expect=200) == made
    listed = await call(people.owner, "GET", "/models?provider=openai&limit=100", expect=200)
    assert listed["total"] == len({one["id"] for one in listed["items"]})
    config = await call(people.owner, "GET", f"/models/{body['id']}/config", expect=200)
    assert (config["upstream"], config["price_source"], config["price_version"]) == ("house-9", "database", "1")
    llmock.reply("Hello from afar.")
    answer = await ask_anew(people.owner, "Hello?", model=body["id"])
    assert (answer["model"], llmock.last_request.model) == (body["id"], "house-9")
    # 0.000000001 $ a million for what is asked is nothing; 1 $ for each token of the answer.
    assert Decimal(answer["cost_usd"]) == answer["usage"]["output_tokens"]


async def test_a_registered_model_falls_back(people: People, llmock: LLMock) -> None:
    made = await register(people, fallbacks=[ANTHROPIC, "small"])
    path = f"/models/{made['id']}"
    assert made["fallbacks"] == [ANTHROPIC, "small"]
    assert (await call(people.owner, "GET", f"{path}/config", expect=200))["fallbacks"] == [ANTHROPIC, "small"]
    llmock.fail(500)
    answer = await ask_anew(people.owner, "Hello?", model=made["id"])
    assert answer["model"] == ANTHROPIC
    # Those of the request come in place of the model's.
    llmock.fail(500)
    asked = {"model": made["id"], "messages": [{"role": "user", "content": "Hello?"}], "fallbacks": []}
    await call(people.owner, "POST", "/chat/completions", asked, expect=503)
    # One that was switched off is left out.
    await call(people.admin, "PATCH", path, {"fallbacks": [spare := (await register(people))["id"]]}, expect=200)
    await call(people.admin, "DELETE", f"/models/{spare}", expect=204)
    llmock.fail(500)
    await call(people.owner, "POST", "/chat/completions", {**asked, "fallbacks": None}, expect=503)
    assert (await call(people.admin, "PATCH", path, {"fallbacks": None}, expect=200))["fallbacks"] == []


async def test_models_may_be_each_others_fallback(people: People, llmock: LLMock) -> None:
    one = await register(people)
    other = await register(people, fallbacks=[one["id"]], upstream="other")
    await call(people.admin, "PATCH", f"/models/{one['id']}", {"fallbacks": [other["id"]]}, expect=200)
    llmock.fail(500, times=None)
    asked = {"model": one["id"], "messages": [{"role": "user", "content": "Hello?"}]}
    problem = await call(people.owner, "POST", "/chat/completions", asked, expect=503)
    record = await call(people.owner, "GET", f"/completions/{problem['completion_id']}", expect=200)
    assert [entry["model"] for entry in record["entries"]] == [one["id"], other["id"]]


async def test_fallbacks_that_cannot_be(people: People) -> None:
    made = await register(people)
    path = f"/models/{made['id']}"
    for fallbacks in (["nobody"], [made["id"]], [OPENAI, ANTHROPIC, OPENAI], [OPENAI, f"openai/{OPENAI}"]):
        problem = await call(people.admin, "PATCH", path, {"fallbacks": fallbacks}, expect=422)
        assert problem["detail"][0]["loc"] == ["body", "fallbacks", len(fallbacks) - 1]
    wrongs: list[object] = [[""], [7], "small", {}, ["small"] * 6, ["x" * 201]]
    for wrong in wrongs:
        await call(people.admin, "PATCH", path, {"fallbacks": wrong}, expect=422)
    new = unique()
    body = {"id": new, "provider": "openai", "fallbacks": [new]}
    await call(people.admin, "POST", "/models", body, expect=422)
    assert (await call(people.owner, "GET", path, expect=200))["fallbacks"] == []


async def test_a_new_price_does_not_touch_what_was_charged(people: People, llmock: LLMock) -> None:
    made = await register(people, prices={"input": 0, "output": 1})
    path = f"/models/{made['id']}"
    tag = (await people.owner.get(f"{path}/config")).headers["etag"]
    first = await ask_anew(people.owner, "Hello?", model=made["id"])
    changed = await call(people.admin, "PATCH", path, {"prices": {"input": 0, "output": "2.5"}}, expect=200)
    assert changed["prices"] == {"input": "0", "output": "2.5", "cache_read": None, "cache_write": None}
    assert (await people.owner.get(f"{path}/config")).headers["etag"] != tag
    second = await ask_anew(people.owner, "Hello?", model=made["id"])
    # The same prices again are not new ones, nor is another change.
    await call(people.admin, "PATCH", path, {"prices": {"input": "0.0", "output": 2.5}}, expect=200)
    await call(people.admin, "PATCH", path, {"max_tokens": 9000}, expect=200)
    third = await ask_anew(people.owner, "Hello?", model=made["id"])
    found = []
    for answer in (first, second, third):
        record = await call(people.owner, "GET", f"/completions/{answer['completion_id']}", expect=200)
        [entry] = record["entries"]
        assert entry["cost_usd"] == record["cost_usd"] == answer["cost_usd"]
        per_token = Decimal(entry["cost_usd"]) / entry["output_tokens"] * 1_000_000
        found.append((per_token, entry["price_source"], entry["price_version"]))
    assert found == [(1, "database", "1"), (Decimal("2.5"), "database", "2"), (Decimal("2.5"), "database", "2")]
    await call(people.admin, "PATCH", path, {"prices": None}, expect=200)
    last = await ask_anew(people.owner, "Hello?", model=made["id"])
    # What this service's settings say about that model of OpenAI's.
    record = await call(people.owner, "GET", f"/completions/{last['completion_id']}", expect=200)
    assert record["entries"][0]["price_source"] == "settings"
    assert len(record["entries"][0]["price_version"]) == 12
    assert len(llmock.requests) == 4


async def test_a_model_that_is_switched_off_is_unknown_until_it_is_back(people: People, llmock: LLMock) -> None:
    made = await register(people)
    path, beside = f"/models/{made['id']}", await register(people)
    await call(people.admin, "DELETE", path, expect=204)
    for method, where, body in (
        ("GET", path, None),
        ("GET", f"{path}/config", None),
        ("POST", "/chat/completions", {"model": made["id"], "messages": [{"role": "user", "content": "Hello?"}]}),
    ):
        assert (await call(people.owner, method, where, body, expect=404))["code"] == "model_not_found"
    await call(people.admin, "DELETE", path, expect=404)
    listed = await call(people.admin, "GET", "/models?disabled=true&limit=100", expect=200)
    assert [one["disabled"] for one in listed["items"] if one["id"] == made["id"]] == [True]
    assert beside["id"] not in {one["id"] for one in listed["items"]}
    await call(people.owner, "GET", "/models?disabled=true", expect=403)
    assert (await call(people.admin, "PATCH", path, {"disabled": False}, expect=200))["disabled"] is False
    await ask_anew(people.owner, "Hello?", model=made["id"])
    await call(people.admin, "PATCH", path, {"disabled": True}, expect=200)
    again = {"id": made["id"], "provider": "anthropic", "upstream": ANTHROPIC}
    assert (await call(people.admin, "POST", "/models", again, expect=201))["provider"] == "anthropic"
    assert [request.model for request in llmock.requests] == [OPENAI]


async def test_a_published_model_is_changed_switched_off_and_left_as_it_was(people: People) -> None:
    published, dated = "gpt-4-turbo", "gpt-4-turbo-2024-04-09"
    for name in (published, f"openai/{published}"):
        changed = await call(people.admin, "PATCH", f"/models/{name}", {"prices": PRICES}, expect=200)
        assert (changed["id"], changed["prices"], changed["max_tokens"]) == (published, PRICES, 128_000)
    assert (await call(people.owner, "GET", f"/models/openai/{published}", expect=200))["prices"] == PRICES
    await call(people.admin, "DELETE", f"/models/{dated}", expect=204)
    for name in (dated, f"openai/{dated}"):
        await call(people.owner, "GET", f"/models/{name}", expect=404)
    await call(people.admin, "DELETE", f"/models/openai/{published}", expect=204)
    for name in (published, f"openai/{published}"):
        await call(people.owner, "GET", f"/models/{name}", expect=404)
    await call(people.admin, "PATCH", f"/models/{dated}", {"disabled": False}, expect=200)
    restored = {"disabled": False, "prices": None, "max_tokens": None}
    await call(people.admin, "PATCH", f"/models/{published}", restored, expect=200)
    shown = await call(people.owner, "GET", f"/models/openai/{published}", expect=200)
    assert (shown["id"], shown["prices"]["output"], shown["max_tokens"]) == (published, "30", 128_000)


@pytest.mark.parametrize(
    ("change", "loc"),
    [
        ({"provider": "nobody"}, ["body", "provider"]),
        ({"prices": {"input": 1}}, ["body", "prices", "output"]),
        ({"prices": {"input": -1, "output": 1}}, ["body", "prices", "input"]),
        ({"prices": {"input": "0.0000000001", "output": 1}}, ["body", "prices", "input"]),
        ({"prices": {"input": "1e400", "output": 1}}, ["body", "prices", "input"]),
        ({"prices": {"input": "NaN", "output": 1}}, ["body", "prices", "input"]),
        ({"max_tokens": 0}, ["body", "max_tokens"]),
        ({"upstream": "a b"}, ["body", "upstream"]),
        ({"name": "x"}, ["body", "name"]),
    ],
)
async def test_a_change_that_makes_no_sense_changes_nothing(
    people: People, change: dict[str, Any], loc: list[str]
) -> None:
    made = await register(people, prices=PRICES)
    problem = await call(people.admin, "PATCH", f"/models/{made['id']}", change, expect=422)
    assert problem["detail"][0]["loc"] == loc
    problem = await call(people.admin, "POST", "/models", {"id": unique(), "provider": "openai", **change}, expect=422)
    assert problem["detail"][0]["loc"] == loc
    assert await call(people.owner, "GET", f"/models/{made['id']}", expect=200) == made


@pytest.mark.parametrize(
    "name", ["", "a b", "/a", "a/", "a//b", "..", "a/../b", "a?b", "a#b", "a%2Fb", "x" * 201, "list", "a/config", "ü"]
)
async def test_an_id_that_no_address_could_name_is_refused(people: People, name: str) -> None:
    problem = await call(people.admin, "POST", "/models", {"id": name, "provider": "openai"}, expect=422)
    assert problem["detail"][0]["loc"] == ["body", "id"]


async def test_an_id_is_given_once(people: People) -> None:
    for taken in (OPENAI, f"openai/{OPENAI}", (await register(people))["id"]):
        problem = await call(people.admin, "POST", "/models", {"id": taken, "provider": "openai"}, expect=409)
        assert (problem["code"], problem["field"]) == ("duplicate", "id")
    body = {"id": unique(), "provider": "openai"}
    replies = await asyncio.gather(*(people.admin.post("/models", json=body) for _ in range(10)))
    assert sorted(reply.status_code for reply in replies) == [201] + [409] * 9


async def test_changes_of_one_model_at_once_are_all_kept(people: People) -> None:
    made = await register(people)
    path = f"/models/{made['id']}"
    prices = [{"prices": {"input": number, "output": number}} for number in range(1, 9)]
    others: list[Json] = [{"max_tokens": 777}, {"max_output_tokens": 77}, {"images": True}]
    replies = await asyncio.gather(*(people.admin.patch(path, json=body) for body in [*prices, *others]))
    assert {reply.status_code for reply in replies} == {200}
    shown = await call(people.owner, "GET", f"{path}/config", expect=200)
    assert (shown["max_tokens"], shown["max_output_tokens"], shown["images"]) == (777, 77, True)
    assert shown["prices"]["input"] == shown["prices"]["output"]
    assert int(shown["price_version"]) > 8


async def test_an_unknown_model_cannot_be_changed(people: People) -> None:
    for method, body in (("PATCH", {"max_tokens": 1}), ("DELETE", None)):
        problem = await call(people.admin, method, "/models/nothing/like/it", body, expect=404)
        assert problem["code"] == "model_not_found"


@pytest.fixture
def beside(running_service: Running, llmock_server: LLMockServer, tmp_path: Path) -> Iterator[Service]:
    """Another service on the same database."""
    with Service(service_environment(running_service.database_url, llmock_server), tmp_path) as service:
        yield service


async def becomes(client: httpx2.AsyncClient, path: str, status: int) -> None:
    """Wait until a path answers so, five seconds at the most."""
    async with asyncio.timeout(5):
        while True:
            if (await client.get(path)).status_code == status:
                return
            await asyncio.sleep(0.1)


@pytest.mark.usefixtures("llmock")
async def test_another_worker_and_a_restarted_one_know_within_seconds(people: People, beside: Service) -> None:
    headers = people.owner.headers
    async with httpx2.AsyncClient(base_url=beside.url, headers=headers, timeout=30, verify=False) as other:
        made = await register(people, prices=PRICES)
        path = f"/models/{made['id']}"
        await becomes(other, path, 200)
        assert (await other.get(path)).json() == made
        await ask_anew(other, "Hello?", model=made["id"])
        await call(people.admin, "DELETE", path, expect=204)
        await becomes(other, path, 404)
        await call(people.admin, "PATCH", path, {"disabled": False}, expect=200)
    beside.stop()
    beside.start()
    async with httpx2.AsyncClient(base_url=beside.url, headers=headers, timeout=30, verify=False) as other:
        assert (await other.get(path)).json() == made


def test_a_model_of_a_provider_that_is_gone_is_left_out(
    make_database: MakeDatabase, llmock_server: LLMockServer, tmp_path: Path
) -> None:
    with make_database("sqlite") as url:
        environment = service_environment(url, llmock_server)
        headers = {"x-api-key": admin_key_for(url)}
        with Service(environment, tmp_path) as service:
            body = {"id": "ours", "provider": "anthropic", "upstream": ANTHROPIC}
            assert httpx2.post(f"{service.url}/models", json=body, headers=headers).status_code == 201
        without = {name: value for name, value in environment.items() if "ANTHROPIC" not in name}
        with Service(without, tmp_path) as service:
            assert httpx2.get(f"{service.url}/models/ours", headers=headers).status_code == 404
            listed = httpx2.get(f"{service.url}/models?limit=100", headers=headers).json()
            assert {one["provider"] for one in listed["items"]} == {"openai"}
