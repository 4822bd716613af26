"""Examples for the API's description: those that its parts bring along, and others put together of them."""

from collections.abc import Mapping
from typing import Any

Schema = dict[str, Any]

REF = "#/components/schemas/"
MOMENT = "2026-11-25T10:00:00Z"
DEPTH = 8
# What fields of these names hold in examples that are put together.
NAMED: Schema = {
    "id": 17,
    "user_id": 3,
    "conversation_id": 9,
    "message_id": 18,
    "completion_id": 9,
    "parent_id": 17,
    "active_leaf_id": 18,
    "key_id": 2,
    "model": "smollm2-135m-instruct",
    "upstream_model": "smollm2-135m-instruct",
    "provider": "local",
    "role": "user",
    "content": "What is the capital of France?",
    "title": "What is the capital of France?",
    "system_prompt": "Answer in one sentence.",
    "status": "completed",
    "finish_reason": "stop",
    "temperature": 0.7,
    "max_tokens": 1000,
    "input_tokens": 37,
    "output_tokens": 8,
    "cost_usd": "0.000021",
    "price_source": "genai-prices",
    "price_version": "0.2.3",
    "provenance": "provider",
    "kind": "charge",
    "upstream_id": "chatcmpl-083WqHPQ1tm7",
    "duration_ms": 480,
    "first_token_ms": 110,
    "attempt_count": 1,
    "attempt": 1,
    "number": 1,
    "message_count": 2,
    "depth": 1,
    "deleted": 1,
    "tags": "private",
    "total": 1,
    "limit": 20,
    "upstream": "gpt-5-mini",
    "streamed": True,
    "stored": True,
}
# Fields that are null in them although they could be something.
NOTHING = {"next_cursor", "prev_cursor", "error_code", "error_detail", "error_kind", "reasoning"}
KINDS: dict[str, type | tuple[type, ...]] = {"string": str, "integer": int, "number": (int, float), "boolean": bool}


def example_of(part: Schema, schema: Schema, *, name: str = "", depth: int = 0) -> Any:
    """A value that fits a part of the description `schema`: the part's own example, or one made of its parts'."""
    if "$ref" in part:
        return example_of(_referred(part, schema), schema, name=name, depth=depth + 1)
    if choices := _choices(part):
        return example_of(choices[0], schema, name=name, depth=depth)
    for given in (part.get("example"), *part.get("examples", ())[:1], part.get("const")):
        if given is not None:
            return _with_nulls(given, part, schema)
    match part.get("type"):
        case "object" if depth < DEPTH:
            return _object(part, schema, depth)
        case "array" if depth < DEPTH:
            return _array(part, schema, name, depth)
        case kind:
            return _plain(part, kind, name)


def _with_nulls(given: Any, part: Schema, schema: Schema) -> Any:
    """An example as it was written, with the nulls that FastAPI left out of it."""
    if "$ref" in part:
        part = _referred(part, schema)
    for choice in _choices(part)[:1]:
        return _with_nulls(given, choice, schema)
    if isinstance(given, list):
        return [_with_nulls(one, part.get("items", {}), schema) for one in given]
    if not isinstance(given, dict):
        return given
    fields: Schema = part.get("properties", {})
    whole = {name: _with_nulls(given[name], fields.get(name, {}), schema) for name in given}
    for name in part.get("required", ()):
        if name not in given:
            # Null, or what this one has beside those whose example it inherits.
            whole[name] = None if _is_nullable(fields[name]) else example_of(fields[name], schema, name=name, depth=1)
    return whole


def _object(part: Schema, schema: Schema, depth: int) -> Schema:
    made = {}
    for name, field in part.get("properties", {}).items():
        null = name in NOTHING and _is_nullable(field)
        made[name] = None if null else example_of(field, schema, name=name, depth=depth + 1)
    return made


def _array(part: Schema, schema: Schema, name: str, depth: int) -> list[Any]:
    items = part.get("items", {})
    unknown = items.get("type") == "string" and "enum" not in items and name not in NAMED
    return [] if unknown else [example_of(items, schema, name=name, depth=depth + 1)]


def _plain(part: Schema, kind: str | None, name: str) -> Any:
    known = NAMED.get(name)
    if known is not None and isinstance(known, KINDS.get(kind or "", ())) and known in part.get("enum", (known,)):
        return known
    if "enum" in part:
        return part["enum"][0]
    moment = part.get("format") == "date-time"
    empty: Mapping[str | None, Any] = {
        "object": {},
        "array": [],
        "integer": part.get("minimum", 0),
        "number": part.get("minimum", 0),
        "boolean": False,
        "string": MOMENT if moment else name or "text",
    }
    return empty.get(kind)


def _referred(part: Schema, schema: Schema) -> Schema:
    found: Schema = schema["components"]["schemas"][part["$ref"].removeprefix(REF)]
    return found


def _choices(part: Schema) -> list[Schema]:
    found: list[Schema] = part.get("anyOf") or part.get("oneOf") or part.get("allOf") or []
    return found


def _is_nullable(field: Schema) -> bool:
    return {"type": "null"} in field.get("anyOf", ())
