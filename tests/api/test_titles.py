"""Titles: every conversation gets one with its first turn, and a better one by a model where one is set for it."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from secrets import token_hex

import httpx2
import pytest
from llmock.pytest_plugin import LLMock
from llmock.testing import LLMockServer

from tests.api.steps import ANTHROPIC, OPENAI, Json, ask, ask_anew, call, check_account, ended, start_talk
from tests.conftest import MakeDatabase, admin_key_for, new_user, service_environment
from tests.patience import until
from tests.servers.service import Service

QUESTION = "Hi! How do I sort a list of dictionaries by two of their keys?"
AUTOMATIC = "How do I sort a list of dictionaries by two of their keys?"


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def titling(
    request: pytest.FixtureRequest,
    make_database: MakeDatabase,
    llmock_server: LLMockServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Service, str]]:
    """A service that has conversations named by a model on the other wire, and its admin's key."""
    with make_database(request.param) as url:
        key = admin_key_for(url)
        environment = service_environment(url, llmock_server) | {"EVERTURN_TITLE_MODEL": ANTHROPIC}
        with Service(environment, tmp_path_factory.mktemp("titling")) as service:
            yield service, key


@pytest.fixture
async def admin(titling: tuple[Service, str]) -> AsyncIterator[httpx2.AsyncClient]:
    service, key = titling
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx2.AsyncClient(base_url=service.url, headers=headers, timeout=30, verify=False) as client:
        yield client


@pytest.fixture
async def user(titling: tuple[Service, str], admin: httpx2.AsyncClient) -> AsyncIterator[httpx2.AsyncClient]:
    _, key = await new_user(admin)
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx2.AsyncClient(base_url=titling[0].url, headers=headers, timeout=30, verify=False) as client:
        yield client


async def title(client: httpx2.AsyncClient, talk: int) -> str | None:
    found: str | None = (await call(client, "GET", f"/conversations/{talk}", expect=200))["title"]
    return found


async def asked(client: httpx2.AsyncClient) -> list[Json]:
    """The completions that asked for a title, all of which have ended."""
    page = await call(client, "GET", "/completions?limit=100", expect=200)
    mine = [one for one in page["items"] if one["parameters"].get("purpose") == "title"]
    return [await ended(client, f"/completions/{one['id']}") for one in mine]


async def asked_besides(client: httpx2.AsyncClient) -> int:
    """How often a title was asked for until one more was: what was to be asked for before had its time."""
    talk = (await ask_anew(client, "One more"))["conversation_id"]

    async def named() -> bool:
        return await title(client, talk) != "One more"

    await until(named, "one more title")
    return len(await asked(client)) - 1


async def was_asked(client: httpx2.AsyncClient, times: int = 1) -> list[Json]:
    async def so() -> bool:
        return len(await asked(client)) == times

    await until(so, "a title to be asked for")
    return await asked(client)


async def test_a_model_names_a_conversation_after_its_first_answer(user: httpx2.AsyncClient, llmock: LLMock) -> None:
    llmock.reply('Title: "Sorting by *two* keys."\n\nBecause', provider="anthropic").reply(
        "With sorted().", provider="openai"
    )
    talk = (await ask_anew(user, QUESTION))["conversation_id"]

    async def named() -> bool:
        return await title(user, talk) == "Sorting by *two* keys"

    await until(named, "the title")
    [completion] = await was_asked(user)
    check_account({**completion, "conversation_id": None}, ANTHROPIC)
    assert (completion["conversation_id"], completion["content"], completion["stored"]) == (None, None, False)
    prompt = str(llmock.last_request.body)
    assert QUESTION in prompt
    assert "With sorted()." in prompt
    llmock.reply("Yes.", times=None)
    await ask(user, talk, "Really?")
    assert await asked_besides(user) == 1, "only the first answer names it"
    listed = (await call(user, "GET", "/conversations?q=sorting", expect=200))["items"]
    assert [one["id"] for one in listed] == [talk], "it is found by its new title"


async def test_nobody_waits_for_a_title_and_a_name_given_meanwhile_stays(
    user: httpx2.AsyncClient, llmock: LLMock
) -> None:
    llmock.delay(1.0, provider="anthropic").reply("Too late", provider="anthropic")
    talk = (await ask_anew(user, QUESTION))["conversation_id"]
    assert await title(user, talk) == AUTOMATIC
    await call(user, "PATCH", f"/conversations/{talk}", {"title": "Mine"}, expect=200)
    [completion] = await was_asked(user)
    assert completion["status"] == "completed"
    assert await asked_besides(user) == 1
    assert await title(user, talk) == "Mine"


@pytest.mark.parametrize("fault", ["fails", "says nothing"])
async def test_the_title_stays_where_the_model_has_none(user: httpx2.AsyncClient, llmock: LLMock, fault: str) -> None:
    if fault == "fails":
        llmock.fail(500, provider="anthropic", times=None)
    else:
        llmock.reply("<think>What now?</think>", provider="anthropic")
    talk = (await ask_anew(user, QUESTION))["conversation_id"]
    [completion] = await was_asked(user)
    assert completion["status"] == ("failed" if fault == "fails" else "completed")
    assert len(completion["entries"]) == 1
    assert await title(user, talk) == AUTOMATIC


@pytest.mark.usefixtures("llmock")
async def test_a_limit_keeps_titles_away_and_not_the_turn(
    titling: tuple[Service, str], admin: httpx2.AsyncClient, user: httpx2.AsyncClient
) -> None:
    me = (await call(user, "GET", "/users/me", expect=200))["id"]
    await call(admin, "PATCH", f"/users/{me}", {"limits": {"requests_per_minute": 1}}, expect=200)
    talk = (await ask_anew(user, QUESTION))["conversation_id"]

    async def given_up() -> bool:
        return "a conversation keeps its first title: limit_exceeded" in titling[0].log_text()

    await until(given_up, "the title to be refused")
    assert (await asked(user), await title(user, talk)) == ([], AUTOMATIC)


async def test_what_has_a_title_or_is_not_stored_is_not_named(user: httpx2.AsyncClient, llmock: LLMock) -> None:
    talk = await call(user, "POST", "/conversations", {"title": "Given"}, expect=201)
    await ask(user, talk["id"], QUESTION)
    await ask_anew(user, QUESTION, store=False)
    llmock.fail(400, provider="openai")
    await call(
        user, "POST", "/chat/completions", {"model": OPENAI, "messages": [{"role": "user", "content": "x"}]}, expect=422
    )
    assert (await asked_besides(user), await title(user, talk["id"])) == (0, "Given")


async def test_a_title_that_is_cut_off_by_a_kill_leaves_nothing_open(
    llmock_server: LLMockServer,
    llmock: LLMock,
    database_url: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """The worker dies while the model thinks of a title: the call is ended and accounted by the next one."""
    key = await asyncio.to_thread(admin_key_for, database_url)
    more = {"EVERTURN_TITLE_MODEL": ANTHROPIC, "EVERTURN_LEASE_SECONDS": "3"}
    service = Service(service_environment(database_url, llmock_server) | more, tmp_path_factory.mktemp("killed"))
    llmock.delay(5.0, provider="anthropic")
    headers = {"Authorization": f"Bearer {key}"}
    with service:
        async with httpx2.AsyncClient(base_url=service.url, headers=headers, timeout=30, verify=False) as client:
            talk = (await ask_anew(client, QUESTION))["conversation_id"]

            async def begun() -> bool:
                running = await call(client, "GET", "/completions?status=in_progress", expect=200)
                return bool(running["total"])

            await until(begun, "the title to be asked for")
            await asyncio.to_thread(service.kill)
            await asyncio.to_thread(service.start)
            [completion] = await asked(client)
            assert (completion["status"], completion["error_code"]) == ("failed", "worker_lost")
            assert [entry["provenance"] for entry in completion["entries"]] == ["estimated"]
            assert await title(client, talk) == AUTOMATIC


@pytest.mark.usefixtures("llmock")
async def test_a_conversation_made_without_a_title_is_named_by_its_first_turn(http: httpx2.AsyncClient) -> None:
    empty = (await call(http, "POST", "/conversations", {}, expect=201))["id"]
    begun = (await start_talk(http, QUESTION, "Like so."))["id"]
    assert [await title(http, talk) for talk in (empty, begun)] == [None, None]
    for talk in (empty, begun):
        await ask(http, talk, f"Why {token_hex(4)}?")
    assert (await title(http, empty) or "").startswith("Why ")
    assert await title(http, begun) == AUTOMATIC
    listed = (await call(http, "GET", "/conversations?q=dictionaries", expect=200))["items"]
    assert [one["id"] for one in listed] == [begun]
    await ask(http, empty, "And another question?")
    assert (await title(http, empty) or "").startswith("Why ")
