"""A canary: after a session with content, keys and failures the log holds none of it."""

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from llmock.pytest_plugin import LLMock
from llmock.testing import LLMockServer

from tests.api.steps import ANTHROPIC, OPENAI, ask_anew, call, stream
from tests.conftest import PEPPER, MakeDatabase, admin_key_for, service_environment
from tests.servers.service import Service

CANARY = "canary-7f3a-sings"


@pytest.fixture(params=["text", "json"])
def talkative(
    request: pytest.FixtureRequest, make_database: MakeDatabase, llmock_server: LLMockServer, tmp_path: Path
) -> Iterator[tuple[Service, str]]:
    """A service that logs all that it can, and the key of its admin."""
    with make_database("sqlite") as url:
        key = admin_key_for(url)
        loud = {"EVERTURN_LOG_LEVEL": "debug", "EVERTURN_LOG_FORMAT": request.param}
        with Service(service_environment(url, llmock_server) | loud, tmp_path) as service:
            yield service, key


async def test_the_log_holds_neither_content_nor_secrets(talkative: tuple[Service, str], llmock: LLMock) -> None:
    service, admin_key = talkative
    said = f"My secret is {CANARY}."
    async with httpx2.AsyncClient(base_url=service.url, headers={"x-api-key": admin_key}, verify=False) as client:
        made = await call(client, "POST", "/users", {"username": "ada", "email": f"{CANARY}@example.org"}, expect=201)
        key = await call(client, "POST", f"/users/{made['id']}/keys", {"name": CANARY}, expect=201)
        client.headers["x-api-key"] = key["key"]
        for model in (OPENAI, ANTHROPIC):
            llmock.reply(f"I heard {said}")
            await ask_anew(client, said, model=model)
            llmock.reply(f"I heard {said}").truncate(after_chunks=6)
            await stream(client, "/chat/stream", {"model": model, "prompt": said})
            for status in (400, 401, 500):
                llmock.fail(status, message=f"{said} and sk-test-openai-canary")
                await client.post("/chat/completions", json={"model": model, "messages": _lines(said)})
        talk = await call(client, "POST", "/conversation", {"title": CANARY, "messages": _lines(said)}, expect=201)
        await call(client, "GET", f"/conversations?q={CANARY}", expect=200)
        await call(client, "POST", "/chat", {"role": CANARY, "content": said}, expect=422)
        await call(client, "POST", "/chat/completions", {"model": CANARY, "messages": _lines(said)}, expect=404)
        await client.post(
            "/chat", content=f'{{"role": "{CANARY}'.encode(), headers={"Content-Type": "application/json"}
        )
        await client.put(f"/files/{CANARY}.txt", content=said.encode())
        await client.put(f"/files/{CANARY}/../x", content=said.encode())
        await call(client, "GET", f"/files?prefix={CANARY}", expect=200)
        await client.get("/users/me", headers={"x-api-key": f"{key['key']}x"})
        await client.get("/conversations", headers={"Everturn-User": f"ext:{CANARY}"})
        await call(client, "DELETE", f"/conversations/{talk['id']}", expect=204)
    assert service.stop() == 0
    log = service.log_text()
    assert "/chat/completions" in log, "the log says nothing: the test looks in the wrong place"
    secrets = (CANARY, key["key"], admin_key, "sk-test-openai-canary", "sk-ant-test-canary", PEPPER)
    assert [secret for secret in secrets if secret in log] == []


def _lines(content: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": content}]
