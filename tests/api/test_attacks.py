"""What attackers of the first version got through, each once more."""

import asyncio

import pytest
from llmock.pytest_plugin import LLMock
from llmock.scenarios import Match, Reply

from tests.api.steps import OPENAI, ask_anew, branch, call, start_talk
from tests.conftest import People

ASKED = Match(path="/v1/chat/completions")


async def test_appends_at_once_all_stay_on_the_active_branch(people: People) -> None:
    talk = (await start_talk(people.owner, "first"))["id"]
    lines = [{"role": "user", "content": f"line {number}"} for number in range(20)]
    await asyncio.gather(
        *(call(people.owner, "POST", f"/conversations/{talk}/messages", line, expect=201) for line in lines)
    )
    contents = [content for _, content in await branch(people.owner, talk)]
    assert contents[0] == "first"
    assert sorted(contents[1:]) == sorted(line["content"] for line in lines)


async def test_an_append_does_not_let_a_second_turn_in(people: People, llmock: LLMock) -> None:
    llmock.pace(20).add(Reply(text="One two three four five six seven eight nine ten.", match=ASKED))
    talk = (await start_talk(people.owner, "Hello", "Hi!"))["id"]
    turn = {"model": OPENAI, "content": "Count!", "stream": True}
    path = f"/conversations/{talk}/completions"
    async with people.owner.stream("POST", path, json=turn) as reply:
        assert reply.status_code == 200
        pieces = reply.aiter_raw()
        await anext(pieces)
        more = {"role": "user", "content": "And another thing."}
        await call(people.owner, "POST", f"/conversations/{talk}/messages", more, expect=201)
        refused = await call(people.owner, "POST", path, {**turn, "stream": False}, expect=409)
        assert refused["code"] == "conversation_busy"
        assert b"[DONE]" in b"".join([piece async for piece in pieces])
    await call(people.owner, "POST", path, {**turn, "stream": False}, expect=201)


@pytest.mark.parametrize("name", ["since", "until"])
@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
async def test_a_moment_that_utc_does_not_have_is_refused(people: People, name: str, moment: str) -> None:
    reply = await people.owner.get("/completions", params={name: moment})
    assert reply.status_code == 422
    assert reply.json()["detail"][0]["loc"] == ["query", name]


@pytest.mark.usefixtures("llmock")
async def test_a_turns_own_title_is_found(people: People) -> None:
    await ask_anew(people.owner, "Straße ΣΑΣ")
    found = await people.owner.get("/conversations", params={"q": "STRASSE σας"})
    assert found.json()["total"] == 1
