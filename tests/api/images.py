"""Steps that the tests of images share: parts as callers send them and as wires have them."""

import httpx2

from tests.api.steps import OPENAI, Json, call
from tests.pictures import data_url

TEXT = {"type": "text", "text": "What is this?"}


def shown(path: str) -> Json:
    return {"type": "image", "file": path}


def sent(data: bytes, media_type: str = "image/png") -> Json:
    return {"type": "image_url", "image_url": {"url": data_url(data, media_type)}}


def wired(model: str, data: bytes, media_type: str = "image/png") -> Json:
    """An image as the wire of a model has it."""
    url = data_url(data, media_type)
    if model == OPENAI:
        return {"type": "image_url", "image_url": {"url": url}}
    return {"type": "image", "source": {"type": "base64", "media_type": media_type, "data": url.partition(",")[2]}}


async def put(http: httpx2.AsyncClient, path: str, data: bytes, content_type: str = "image/png") -> str:
    reply = await http.put(f"/files/{path}", content=data, headers={"content-type": content_type})
    assert reply.status_code in (200, 201), reply.text
    return path


async def send(http: httpx2.AsyncClient, *content: Json, model: str = OPENAI, **fields: object) -> Json:
    """The answer to a first question."""
    body = {"model": model, "messages": [{"role": "user", "content": list(content)}], **fields}
    answer: Json = await call(http, "POST", "/chat/completions", body, expect=201)
    return answer


async def messages(http: httpx2.AsyncClient, talk: int) -> list[Json]:
    page = await call(http, "GET", f"/conversations/{talk}/messages?limit=100", expect=200)
    found: list[Json] = page["items"]
    return found
