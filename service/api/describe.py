"""The API's OpenAPI description: what FastAPI writes, with examples of every answer and one path for every address."""

import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import cache
from threading import Lock

from fastapi import FastAPI

from service.api.errors import MEDIA_TYPE, problem, responses
from service.api.examples import Schema, example_of
from service.errors import (
    BadCursor,
    BodyTooLarge,
    Conflict,
    EverturnError,
    Forbidden,
    LimitExceeded,
    NotFound,
    PreconditionFailed,
    RangeNotSatisfiable,
    Stalled,
    StorageFull,
    Unauthenticated,
    Unavailable,
    Unprocessable,
)

JSON = "application/json"
REQUEST_ID = "6fa1c02be8e44f3a9d55b0d7a3b1c6e2"

TAGS = {
    "service": "The service itself: its name, its health, its metrics.",
    "models": "Which models can be asked, what they take and what they cost; registered and changed by admins.",
    "users": "Accounts. `me` stands for the caller's own.",
    "keys": "The secrets that callers hold. A key gives no more than it has.",
    "limits": "Budgets and limits of all together, of a user and of a key, and what is used of them.",
    "conversations": "Trees of messages with an active branch.",
    "messages": "The nodes of conversations, without asking a model.",
    "search": "Ranked full text search over one's messages.",
    "files": "Attachments, stored by their content.",
    "usage": "What was used and what it cost: reports, ledger entries, and the same as files.",
    "completions": "Asking models, and the records of what was asked: each has its text, attempts and ledger entries.",
}
TEXT = """A chat backend: it keeps conversations, asks language models and accounts for what they use.

Every request but those under *service* needs a key. Lists take `skip` and `limit`, or `cursor`. Failures are
`application/problem+json` with a stable `code`. A request that creates something takes an `Idempotency-Key`."""
SUCCESS = {"200": "What was asked for.", "201": "It is made.", "204": "Done; there is nothing to say."}
FAILURES: dict[str, EverturnError] = {
    "400": BadCursor("This cursor was not given out for this list with these filters."),
    "401": Unauthenticated("This key is unknown, revoked or expired."),
    "403": Forbidden("Only an admin key may do this."),
    "404": NotFound("There is no conversation 7."),
    "408": Stalled(),
    "409": Conflict("The conversation changed meanwhile; read it and send again."),
    "412": PreconditionFailed(),
    "413": BodyTooLarge("The body is larger than the 2,000,000 bytes that are taken here."),
    "416": RangeNotSatisfiable(facts={"size": 184320}),
    "422": Unprocessable("Field required", loc=("body", "content")),
    "429": LimitExceeded("The budget of this month is used up."),
    "503": Unavailable("This worker is shutting down; send again."),
    "507": StorageFull(),
}

QUOTAS = {
    "RateLimit-Policy": ("The limits that the turn falls under.", '"user-requests";q=60;w=60'),
    "RateLimit": ("What is left of each, for how many seconds.", '"user-requests";r=49;t=30'),
    "RateLimit-Limit": ("The limit that is nearest to its end.", "60"),
    "RateLimit-Remaining": ("What is left of that.", "49"),
    "RateLimit-Reset": ("Seconds until there is more of it.", "30"),
}


def install(app: FastAPI) -> None:
    """Describe the app so from now on; the description is made when it is first asked for, in whatever thread."""
    describe, finished = app.openapi, cache(_finish_once)
    lock = Lock()

    def openapi() -> Schema:
        with lock:
            return finished(describe)

    app.openapi = openapi  # type: ignore[method-assign]  # the way that FastAPI documents


def _finish_once(describe: Callable[[], Schema]) -> Schema:
    return _finish(describe())


def _finish(schema: Schema) -> Schema:
    schema["info"] |= {"description": TEXT, "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"}}
    used = {tag for _, operation in _operations(schema) for tag in operation.get("tags", ())}
    schema["tags"] = [{"name": name, "description": text} for name, text in TAGS.items() if name in used]
    schemes = schema.get("components", {}).get("securitySchemes", {})
    if "key" in schemes:
        schemes["x-api-key"] = {"type": "apiKey", "in": "header", "name": "x-api-key"}
    _add_full(schema)
    for _, operation in _operations(schema):
        if {"key": []} in operation.get("security", ()):
            operation["security"].append({"x-api-key": []})
        for body in operation.get("requestBody", {}).get("content", {}).values():
            body.setdefault("example", example_of(body.get("schema", {}), schema))
        for status, reply in operation.get("responses", {}).items():
            _finish_reply(schema, status, reply)
        if "429" in operation.get("responses", {}):
            _add_limits(operation["responses"])
    _merge_twins(schema)
    return schema


def _add_limits(replies: Schema) -> None:
    """What an answer says of limits, where there are any."""
    for status in {"200", "201", "429"} & set(replies):
        replies[status]["headers"] = {name: _header(text, example) for name, (text, example) in QUOTAS.items()}
    replies["429"]["headers"]["Retry-After"] = _header("Seconds until there is room in every limit.", "30")


def _header(text: str, example: str) -> Schema:
    return {"description": text, "schema": {"type": "string"}, "example": example}


def _add_full(schema: Schema) -> None:
    """Whatever writes may find the disk full."""
    for item in schema.get("paths", {}).values():
        for method, operation in item.items():
            replies = operation.get("responses", {})
            if method != "get" and "503" in replies:
                full = responses(507)[507]
                replies.setdefault("507", {"description": full["description"], "content": deepcopy(full["content"])})


def _operations(schema: Schema) -> Iterator[tuple[str, Schema]]:
    for path, item in schema.get("paths", {}).items():
        for operation in item.values():
            yield path, operation


def _finish_reply(schema: Schema, status: str, reply: Schema) -> None:
    """Error answers have one media type, and every answer in JSON has an example."""
    if reply.get("description") == "Successful Response":
        reply["description"] = SUCCESS.get(status, "Done.")
    content = reply.get("content", {})
    if MEDIA_TYPE in content:
        content.pop(JSON, None)
        content[MEDIA_TYPE].setdefault("example", _failure(status, reply["description"]))
    elif JSON in content and "example" not in content[JSON]:
        content[JSON]["example"] = example_of(content[JSON].get("schema", {}), schema)


def _failure(status: str, description: str) -> dict[str, object]:
    if status in FAILURES:
        return problem(FAILURES[status], REQUEST_ID)
    words = description.rstrip(".")
    code = re.sub(r"\W+", "_", words.partition(";")[0].lower())
    said = {"type": f"urn:everturn:error:{code}", "title": words, "status": int(status), "detail": description}
    return {**said, "code": code, "request_id": REQUEST_ID}


def _merge_twins(schema: Schema) -> None:
    """`/completions/{completion_id}` and `/completions/{provider}` are one path: OpenAPI 3.1 allows it one template.

    The first one's stays, and the parameters of the others' operations are called as in it.
    """
    paths: Schema = schema.get("paths", {})
    firsts: dict[str, str] = {}
    for path in list(paths):
        first = firsts.setdefault(re.sub(r"{\w+}", "{}", path), path)
        if first == path:
            continue
        names = dict(zip(re.findall(r"{(\w+)}", path), re.findall(r"{(\w+)}", first), strict=True))
        for method, operation in paths.pop(path).items():
            for parameter in operation.get("parameters", ()):
                if parameter["in"] == "path":
                    parameter["name"] = names[parameter["name"]]
            paths[first][method] = operation
