"""Models."""

from decimal import Decimal
from secrets import token_hex

from tests.api.steps import OPENAI, ask_anew, call
from tests.contract.desk import Desk, checks


@checks("GET /models", "GET /models/list")
async def list_models(desk: Desk) -> None:
    for path in ("/models", "/models/list"):
        page = await call(desk.owner, "GET", path, expect=200)
        assert (page["skip"], page["limit"], len(page["items"])) == (0, 10, 10)
        one = page["items"][0]
        assert {"prices", "max_tokens", "streaming", "tools", "images", "reasoning", "source"} <= one.keys()
        # As it is written on the page: a parameter without a value was left out.
        assert await call(desk.owner, "GET", f"{path}?provider=&skip=0&limit=10", expect=200) == page
        chosen = await call(desk.owner, "GET", f"{path}?provider=anthropic&skip=1&limit=2", expect=200)
        assert {item["provider"] for item in chosen["items"]} == {"anthropic"}
        assert len(chosen["items"]) == 2


@checks("GET /models/{model_id}")
async def get_model(desk: Desk) -> None:
    for name in (OPENAI, f"openai/{OPENAI}"):
        assert (await call(desk.owner, "GET", f"/models/{name}", expect=200))["id"] == OPENAI
    await call(desk.owner, "GET", "/models/nothing/like/it", expect=404)


@checks("GET /models/{model_id}/config")
async def get_config(desk: Desk) -> None:
    reply = await desk.owner.get(f"/models/openai/{OPENAI}/config")
    config = reply.json()
    assert {"provider", "upstream", "max_tokens", "max_output_tokens", "prices", "defaults"} <= config.keys()
    again = await desk.owner.get(f"/models/{OPENAI}/config", headers={"If-None-Match": reply.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert "max-age" in reply.headers["cache-control"]


@checks("POST /models", "PATCH /models/{model_id}", "DELETE /models/{model_id}")
async def change_models(desk: Desk) -> None:
    body = {"id": f"contract/{token_hex(4)}", "provider": "openai", "prices": {"input": 0, "output": 1}}
    made = await call(desk.admin, "POST", "/models", body, expect=201)
    path = f"/models/{made['id']}"
    asked = await ask_anew(desk.owner, "Hello?", model=made["id"])
    dearer = {"prices": {"input": 0, "output": "2.5"}}
    assert (await call(desk.admin, "PATCH", path, dearer, expect=200))["prices"]["output"] == "2.5"
    kept = await call(desk.owner, "GET", f"/completions/{asked['completion_id']}", expect=200)
    assert Decimal(kept["cost_usd"]) * 1_000_000 == kept["usage"]["output_tokens"]
    await call(desk.admin, "DELETE", path, expect=204)
    await call(desk.owner, "GET", path, expect=404)
    # Again, so that the last of each kind of request can be sent by others.
    await call(desk.admin, "PATCH", path, {"disabled": False}, expect=200)


@checks("POST /models/{model_id}/completions")
async def ask_model(desk: Desk) -> None:
    body = {"prompt": "Hello?", "max_tokens": 9, "temperature": 0.5}
    answer = await call(desk.owner, "POST", f"/models/openai/{OPENAI}/completions", body, expect=201)
    assert (answer["model"], bool(answer["content"])) == (OPENAI, True)
    watched = await desk.owner.post(f"/models/{OPENAI}/completions?stream=true", json=body)
    assert watched.headers["content-type"].startswith("text/event-stream")
    assert watched.text.endswith("data: [DONE]\n\n")
