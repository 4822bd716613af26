"""Strict JSON bodies: what could not be stored or sent back is refused at the edge, with a 422 that says where."""

import re
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from math import isfinite
from typing import Any, LiteralString

from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, BeforeValidator, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema, from_json
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

Loc = tuple[str | int, ...]

# The parser bounds the depth, and refuses NaN, lone surrogates and broken UTF-8. It lets two things through, which are
# looked for only where the bytes hint at them: an escaped NUL, and a number that overflows to infinity.
_SUSPECT = re.compile(rb"\\u0000|\d[eE]\+?\d{3}|\d{300}")
_PLACE = re.compile(r"^(?P<what>.*) at line (?P<line>\d+) column (?P<column>\d+)$", re.DOTALL)


class Body(BaseModel):
    """Base of all request bodies: an unknown field is an error."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=False)


@dataclass(frozen=True, slots=True)
class Spelled:
    """Text that fits a pattern from end to end. Who sends other text hears in words what it should be."""

    pattern: str
    words: LiteralString

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(schema), "pattern": self.pattern}

    def _check(self, text: str) -> str:
        if not re.fullmatch(self.pattern, text):
            raise PydanticCustomError("string_pattern_mismatch", self.words, {"pattern": self.pattern})
        return text


def _no_flag(value: Any) -> Any:
    if isinstance(value, bool):
        raise PydanticCustomError("number_type", "A number is needed, not true or false.")
    return value


# JSON's true is no number, though Python's is.
NUMBER = BeforeValidator(_no_flag)


class StrictRoute(APIRoute):
    """A route whose JSON body is parsed by `parse_json`; use as a router's `route_class`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        if self.body_field is None:
            return handle

        async def handle_strictly(request: Request) -> Response:
            return await handle(await _StrictRequest.read(request))

        return handle_strictly


def parse_json(data: bytes) -> Any:
    """The value of a JSON text. Raises RequestValidationError, which never repeats what was wrong."""
    try:
        value = from_json(data, allow_inf_nan=False, cache_strings="keys")
    except ValueError as error:
        raise _invalid(data, str(error)) from None
    if _SUSPECT.search(data):
        _check(value, ("body",))
    return value


class _StrictRequest(Request):
    """A request whose body has been read and parsed before FastAPI asks for it."""

    _parsed: Any

    @classmethod
    async def read(cls, request: Request) -> "_StrictRequest":
        strict = cls(request.scope, request.receive)
        try:
            data = await strict.body()
        except ClientDisconnect:
            raise HTTPException(400, "The connection was closed before the body was complete.") from None
        if data:
            if request.headers.get("content-encoding", "identity").lower() != "identity":
                raise HTTPException(415, "Send JSON as it is, without a Content-Encoding.")
            if not _is_json(request.headers.get("content-type")):
                raise HTTPException(415, "Send JSON, with the header `Content-Type: application/json`.")
            strict._parsed = parse_json(data)
        return strict

    async def json(self) -> Any:
        return self._parsed


def _is_json(content_type: str | None) -> bool:
    if content_type == "application/json":
        return True
    kind = (content_type or "").partition(";")[0].strip().lower()
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))


def _check(value: Any, loc: Loc) -> None:
    match value:
        case str() if "\x00" in value:
            raise _refused("string_unsafe", loc, "Text must not contain NUL (U+0000)")
        case float() if not isfinite(value):
            raise _refused("finite_number", loc, "Numbers must be finite")
        case list():
            for index, item in enumerate(value):
                _check(item, (*loc, index))
        case dict():
            for key, item in value.items():
                if "\x00" in key:
                    raise _refused("string_unsafe", loc, "Field names must not contain NUL (U+0000)")
                _check(item, (*loc, key))


def _invalid(data: bytes, message: str) -> RequestValidationError:
    found = _PLACE.match(message)
    if found is None:
        return _refused("json_invalid", ("body",), "The body is not valid JSON")
    before = data.split(b"\n")[: int(found["line"]) - 1]
    offset = min(len(data), sum(len(line) + 1 for line in before) + int(found["column"]))
    return _refused("json_invalid", ("body", offset), f"The body is not valid JSON: {found['what']}")


def _refused(kind: str, loc: Loc, message: str) -> RequestValidationError:
    return RequestValidationError([{"type": kind, "loc": loc, "msg": message}])
