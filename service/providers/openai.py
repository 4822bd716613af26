"""The adapter for OpenAI's chat completions wire, which many servers speak."""

from collections.abc import Mapping
from typing import Any

from service.domain.history import Line
from service.domain.meters import Meters
from service.providers.adapter import Adapter, Fold, Voice, WireError, pieces_of
from service.providers.base import Call, Counted, Ending, FinishReason, Piece
from service.providers.parameters import sentence
from service.providers.sse import parse
from service.providers.transport import Endpoint

BASE_URL = "https://api.openai.com/v1"
_FINISH: dict[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "content_filter": "content_filter",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
}


class OpenAIProvider(Adapter):
    """One server that speaks OpenAI's wire. `own_address`: it is OpenAI's, where `max_tokens` is the old name."""

    path = "/chat/completions"
    models_path = "/models"

    def __init__(self, name: str, endpoint: Endpoint, *, own_address: bool = False) -> None:
        super().__init__(name, endpoint)
        self._limit_name = "max_completion_tokens" if own_address else "max_tokens"
        self._other_name = "max_tokens" if own_address else "max_completion_tokens"

    def build(self, call: Call, refused: frozenset[str]) -> tuple[dict[str, Any], tuple[str, ...]]:
        limit_name = self._other_name if self._limit_name in refused else self._limit_name
        body: dict[str, Any] = {
            "model": call.model,
            "messages": [{"role": line.role, "content": _content(line, call)} for line in call.messages],
        }
        wanted: dict[str, Any] = {
            limit_name: call.max_tokens,
            "temperature": call.temperature,
            "top_p": call.top_p,
            "stop": list(call.stop) or None,
            "seed": call.seed,
        }
        warnings = []
        for parameter, value in wanted.items():
            if value is None:
                continue
            if parameter in refused and parameter != limit_name:
                warnings.append(sentence(parameter, call.model))
            else:
                body[parameter] = value
        if call.stream:
            body["stream"] = True
            if "stream_options" not in refused:
                body["stream_options"] = {"include_usage": True}
        return body, tuple(warnings)

    def fold(self) -> Fold:
        return ChatFold()


def _content(line: Line, call: Call) -> Any:
    """Text, or a list of texts and images as data URLs."""
    return [_block(piece) for piece in pieces_of(line, call)] if line.parts else line.content


def _block(piece: str | tuple[str, str]) -> dict[str, Any]:
    if isinstance(piece, str):
        return {"type": "text", "text": piece}
    media_type, data = piece
    return {"type": "image_url", "image_url": {"url": f"data:{media_type};base64,{data}"}}


class ChatFold:
    """The state of one chat completion: its first choice, its usage, its end."""

    __slots__ = ("_finish_reason", "_id", "_model", "_reasoning", "_text", "_usage", "done")

    def __init__(self) -> None:
        self.done = False
        self._finish_reason: FinishReason | None = None
        self._id: str | None = None
        self._model: str | None = None
        self._usage: Any = None
        self._text = Voice("text")
        self._reasoning = Voice("reasoning")

    def feed(self, data: bytes, pieces: list[Piece]) -> None:
        if data.startswith(b"[DONE]"):
            self.done = True
            return
        chunk = parse(data)
        if not isinstance(chunk, dict):
            raise WireError
        if chunk.get("error"):
            raise WireError(chunk["error"])
        if self._id is None:
            self._note_origin(chunk)
        if usage := chunk.get("usage"):
            self._usage = usage
            if meters := read_usage(usage):
                pieces.append(Counted(meters, "completion_tokens" in usage))
        if choices := chunk.get("choices"):
            self._feed_choice(choices, "delta", pieces)

    def feed_whole(self, reply: dict[str, Any], pieces: list[Piece]) -> None:
        self._note_origin(reply)
        self._usage = reply.get("usage")
        if not reply.get("choices"):
            raise WireError
        self._feed_choice(reply["choices"], "message", pieces)
        # All of it is here: a server that leaves the reason out still came to the end.
        self._finish_reason = self._finish_reason or "other"

    def finish(self, pieces: list[Piece], warnings: tuple[str, ...]) -> bool:
        self._reasoning.finish(pieces)
        self._text.finish(pieces)
        if self._finish_reason is None:
            return False
        meters = read_usage(self._usage)
        pieces.append(Ending(self._finish_reason, meters, self._id, self._model, warnings))
        return True

    def _note_origin(self, chunk: dict[str, Any]) -> None:
        upstream_id, model = chunk.get("id"), chunk.get("model")
        self._id = upstream_id if isinstance(upstream_id, str) and upstream_id else None
        self._model = model if isinstance(model, str) and model else None

    def _feed_choice(self, choices: Any, key: str, pieces: list[Piece]) -> None:
        try:
            choice = choices[0]
            delta = choice.get(key) or {}
            content = delta.get("content")
        except (TypeError, LookupError, AttributeError) as error:
            raise WireError from error
        if reasoning := delta.get("reasoning_content") or delta.get("reasoning"):
            self._reasoning.say(reasoning, pieces)
        if content:
            self._text.say(content, pieces)
        if refusal := delta.get("refusal"):
            self._text.say(refusal, pieces)
        if reason := choice.get("finish_reason"):
            self._finish_reason = _FINISH.get(reason, "other") if isinstance(reason, str) else "other"


def read_usage(usage: Any) -> Meters | None:
    """The disjoint meters; `prompt_tokens` includes what was read from and written to the cache."""
    if not isinstance(usage, dict):
        return None
    prompt, output = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
    details = usage.get("prompt_tokens_details")
    read = min(_count(details, "cached_tokens"), prompt)
    written = min(_count(details, "cache_write_tokens"), prompt - read)
    reasoning = min(_count(usage.get("completion_tokens_details"), "reasoning_tokens"), output)
    return Meters(prompt - read - written, read, written, output, reasoning)


def account_headers(environ: Mapping[str, str]) -> dict[str, str]:
    """The headers that OpenAI's own SDK sends for OPENAI_ORG_ID, OPENAI_PROJECT_ID and OPENAI_CUSTOM_HEADERS."""
    named = {"OpenAI-Organization": environ.get("OPENAI_ORG_ID"), "OpenAI-Project": environ.get("OPENAI_PROJECT_ID")}
    headers = {name: value for name, value in named.items() if value is not None}
    return headers | custom_headers(environ.get("OPENAI_CUSTOM_HEADERS", ""))


def auth_headers(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def custom_headers(lines: str) -> dict[str, str]:
    """The `Name: value` lines of an environment variable, as both official SDKs read it."""
    pairs = (line.partition(":") for line in lines.split("\n"))
    return {name.strip(): value.strip() for name, colon, value in pairs if colon}


def _count(fields: Any, name: str) -> int:
    value = fields.get(name) if isinstance(fields, dict) else None
    return value if isinstance(value, int) and value > 0 else 0
