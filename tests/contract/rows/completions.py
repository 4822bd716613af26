"""Completions."""

from typing import Any

import httpx2

from tests.api.steps import ANTHROPIC, OPENAI, Json, ask_anew, branch, call
from tests.contract.desk import Desk, checks

LINES = [{"role": "user", "content": "Hello?"}]


@checks("POST /chat/completions")
async def create_completion(desk: Desk) -> None:
    body = {"model": OPENAI, "messages": LINES}
    answer = await call(desk.owner, "POST", "/chat/completions", body, expect=201)
    assert answer["id"] == f"msg_{answer['message_id']}"
    assert {"input_tokens", "output_tokens"} <= answer["usage"].keys()
    record = await call(desk.owner, "GET", f"/completions/{answer['completion_id']}", expect=200)
    assert (record["temperature"], record["max_tokens"], record["stored"]) == (0.7, 1000, True)
    said = {
        "temperature": 2, "max_tokens": 1, "stream": False, "conversation_id": answer["conversation_id"], "store": True
    }  # fmt: skip
    more = await call(desk.owner, "POST", "/chat/completions", {**body, **said}, expect=201)
    assert more["conversation_id"] == answer["conversation_id"]
    assert len(await branch(desk.owner, more["conversation_id"])) == 4
    for wrong in ({"temperature": 2.1}, {"temperature": -0.1}, {"max_tokens": 0}):
        await call(desk.owner, "POST", "/chat/completions", {**body, **wrong}, expect=422)


@checks("POST /chat/completions/stream", "POST /chat/stream")
async def stream_completion(desk: Desk) -> None:
    bodies: dict[str, Json] = {
        "/chat/completions/stream": {"model": OPENAI, "messages": LINES},
        "/chat/stream": {"model": OPENAI, "prompt": "Hello?"},
    }
    for path, body in bodies.items():
        desk.llmock.reply("One two.")
        events = _events(await desk.owner.post(path, json=body))
        assert [event.get("event") for event in events[:1]] == ["completion"]
        number = events[0]["data"].partition('"completion_id":')[2].partition(",")[0]
        assert [event["id"] for event in events] == [f"{number}:{seq}" for seq in range(len(events))]
        assert all(event["data"].startswith('{"token": ') for event in events[1:-2])
        assert (events[-2]["event"], events[-1]["data"]) == ("usage", "[DONE]")
        desk.llmock.fail(400)
        failed = _events(await desk.owner.post(path, json=body))
        assert failed[-1]["event"] == "error"
        assert '"code":"provider_refused"' in failed[-1]["data"]


@checks("POST /completions")
async def ask_prompt(desk: Desk) -> None:
    answer = await call(desk.owner, "POST", "/completions", {"model": OPENAI, "prompt": "Hello?"}, expect=201)
    record = await call(desk.owner, "GET", f"/completions/{answer['completion_id']}", expect=200)
    assert (record["temperature"], record["max_tokens"]) == (0.7, 100)
    body = {"model": OPENAI, "prompt": "Hello?", "temperature": 0, "max_tokens": 5}
    await call(desk.owner, "POST", "/completions", body, expect=201)


@checks("POST /completions/{provider}")
async def ask_provider(desk: Desk) -> None:
    for provider, model in (("openai", OPENAI), ("anthropic", ANTHROPIC)):
        body = {"model": model, "messages": LINES}
        answer = await call(desk.owner, "POST", f"/completions/{provider}", body, expect=201)
        assert (answer["provider"], answer["model"]) == (provider, model)
    await call(desk.owner, "POST", "/completions/nobody", {"messages": LINES}, expect=422)


@checks("POST /compare-providers")
async def compare(desk: Desk) -> None:
    desk.llmock.fail(400, provider="anthropic").reply("Hi!", provider="openai")
    body = {"messages": LINES, "models": [ANTHROPIC, OPENAI]}
    made = await call(desk.owner, "POST", "/compare-providers", body, expect=201)
    refused, answered = made["results"]
    assert (refused["model"], refused["error"]["code"]) == (ANTHROPIC, "provider_refused")
    assert (answered["model"], answered["content"], answered["error"]) == (OPENAI, "Hi!", None)
    assert answered["usage"]["output_tokens"] > 0
    assert answered["cost_usd"]
    assert answered["latency_ms"] >= 0
    parents = [
        (await call(desk.owner, "GET", f"/messages/{one['message_id']}", expect=200))["parent_id"]
        for one in made["results"]
    ]
    assert parents == [made["message_id"]] * 2
    path, picked = f"/conversations/{made['conversation_id']}", {"message_id": answered["message_id"]}
    await call(desk.owner, "POST", f"{path}/activate", picked, expect=200)
    assert (await branch(desk.owner, made["conversation_id"]))[-1] == ("assistant", "Hi!")


@checks("GET /completions")
async def list_completions(desk: Desk) -> None:
    made = await ask_anew(desk.owner, "Hello?", temperature=0.25, max_tokens=33)
    record = await call(desk.owner, "GET", f"/completions/{made['completion_id']}", expect=200)
    query: dict[str, Any] = {
        "model": OPENAI, "provider": "openai", "status": "completed", "temperature": 0.25, "max_tokens": 33,
        "since": record["created_at"], "until": "2999-01-01T00:00:00Z", "skip": 0, "limit": 5, "sort": "oldest",
    }  # fmt: skip
    page = await call(desk.owner, "GET", f"/completions?{httpx2.QueryParams(query)}", expect=200)
    [one] = page["items"]
    assert one["id"] == made["completion_id"]
    assert {"parameters", "duration_ms", "usage", "cost_usd", "conversation_id"} <= one.keys()
    assert "content" not in one
    everybody = await call(desk.admin, "GET", f"/completions?user_id={desk.people.owner_id}", expect=200)
    assert everybody["total"] == 1
    await call(desk.owner, "GET", f"/completions?user_id={desk.people.other_id}", expect=403)


@checks("GET /completions/{id}")
async def get_completion(desk: Desk) -> None:
    desk.llmock.reply("Hi!")
    made = await ask_anew(desk.owner, "Hello?")
    record = await call(desk.owner, "GET", f"/completions/{made['completion_id']}", expect=200)
    assert (record["content"], len(record["attempts"]), len(record["entries"])) == ("Hi!", 1, 1)


@checks("GET /completions/{id}/stream")
async def resume_completion(desk: Desk) -> None:
    desk.llmock.reply("One two three.")
    first = await desk.owner.post("/chat/stream", json={"model": OPENAI, "prompt": "Count!"})
    number = first.headers["everturn-completion-id"]
    path = f"/completions/{number}/stream"
    assert (await desk.owner.get(path)).text == first.text
    after = await desk.owner.get(f"{path}?starting_after=1")
    assert first.text.endswith(after.text)
    assert after.text.startswith(f"id: {number}:2\n")
    same = await desk.owner.get(path, headers={"Last-Event-ID": f"{number}:1"})
    assert same.text == after.text
    over = await desk.owner.get(f"{path}?starting_after=1000000")
    assert (over.status_code, over.text[-14:]) == (200, "data: [DONE]\n\n")


@checks("POST /completions/{id}/cancel")
async def cancel_completion(desk: Desk) -> None:
    desk.llmock.pace(40).reply("word " * 300)
    body = {"model": OPENAI, "prompt": "Go on!"}
    async with desk.owner.stream("POST", "/chat/stream", json=body, extensions={"unheard": True}) as reply:
        number = reply.headers["everturn-completion-id"]
        async for line in reply.aiter_lines():
            if "token" in line:
                break
        stopped = await call(desk.owner, "POST", f"/completions/{number}/cancel", expect=200)
    assert stopped["status"] == "cancelled"
    assert stopped["content"].startswith("word")
    assert len(stopped["entries"]) == 1


@checks("DELETE /completions/{id}")
async def erase_completion(desk: Desk) -> None:
    desk.llmock.reply("Hi!")
    made = await ask_anew(desk.owner, "Hello?")
    path = f"/completions/{made['completion_id']}"
    await call(desk.owner, "DELETE", path, expect=204)
    record = await call(desk.owner, "GET", path, expect=200)
    assert (record["content"], len(record["entries"])) == (None, 1)


def _events(reply: httpx2.Response) -> list[dict[str, str]]:
    """The events of a stream, by their fields; comments are left out."""
    parts = [part for part in reply.text.split("\n\n") if part and not part.startswith(":")]
    return [dict(line.split(": ", 1) for line in part.split("\n")) for part in parts]
