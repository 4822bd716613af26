"""The adapter for Anthropic's messages wire."""

from collections.abc import Mapping
from typing import Any

from service.domain.meters import Meters
from service.providers import wire
from service.providers.adapter import Adapter, Fold, Voice, WireError, pieces_of
from service.providers.base import Call, Counted, Ending, FinishReason, Piece
from service.providers.openai import auth_headers, custom_headers
from service.providers.parameters import sentence
from service.providers.sse import parse

BASE_URL = "https://api.anthropic.com"
# The version that the official SDK speaks which the tests compare with; the bodies here are made for it.
API_VERSION = "2026-10-21"
DEFAULT_MAX_TOKENS = 4096
CONTINUE = "(continue)"
_FINISH: dict[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
_USAGE = (
    "input_tokens",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
    "output_tokens",
    "output_tokens_details",
)


class AnthropicProvider(Adapter):
    """One server that speaks Anthropic's wire."""

    path = "/v1/messages"
    models_path = "/v1/models?limit=1000"

    def build(self, call: Call, refused: frozenset[str]) -> tuple[dict[str, Any], tuple[str, ...]]:
        messages = merge(call)
        if not messages:
            raise wire.failure(self.name, "refused", why="there is no message to answer")
        body: dict[str, Any] = {
            "model": call.model,
            "max_tokens": call.max_tokens or DEFAULT_MAX_TOKENS,
            "messages": messages,
        }
        if system := "\n\n".join(m.content for m in call.messages if m.role == "system" and m.content.strip()):
            body["system"] = system
        if call.stream:
            body["stream"] = True
        warnings = []
        wanted = {"temperature": call.temperature, "top_p": call.top_p, "stop_sequences": list(call.stop) or None}
        for parameter, value in wanted.items():
            if value is not None and parameter in refused:
                warnings.append(sentence(parameter, call.model))
            elif value is not None:
                body[parameter] = value
        if body.get("temperature", 0) > 1:
            body["temperature"] = 1.0
            warnings.append(f"temperature was lowered to 1: {call.model} takes no more.")
        if call.seed is not None:
            warnings.append(sentence("seed", call.model))
        return body, tuple(warnings)

    def fold(self) -> Fold:
        return MessageFold()


class MessageFold:
    """The state of one message: its text and thinking, its usage, its end."""

    __slots__ = ("_finish_reason", "_id", "_model", "_reasoning", "_text", "_usage", "done")

    def __init__(self) -> None:
        self.done = False
        self._finish_reason: FinishReason | None = None
        self._id: str | None = None
        self._model: str | None = None
        self._usage: dict[str, Any] = {}
        self._text = Voice("text")
        self._reasoning = Voice("reasoning")

    def feed(self, data: bytes, pieces: list[Piece]) -> None:
        event = parse(data)
        if not isinstance(event, dict):
            raise WireError
        try:
            self._feed_event(event, pieces)
        except (TypeError, LookupError, AttributeError) as error:
            raise WireError from error

    def feed_whole(self, reply: dict[str, Any], pieces: list[Piece]) -> None:
        try:
            self._note_start(reply)
            for block in reply["content"]:
                self._feed_block(block, pieces)
            self._note_end(reply)
        except (TypeError, LookupError, AttributeError) as error:
            raise WireError from error
        self.done = True

    def finish(self, pieces: list[Piece], warnings: tuple[str, ...]) -> bool:
        self._reasoning.finish(pieces)
        self._text.finish(pieces)
        # A stop reason that came while `message_stop` was lost says as much.
        if not self.done and self._finish_reason is None:
            return False
        pieces.append(Ending(self._finish_reason or "other", read_usage(self._usage), self._id, self._model, warnings))
        return True

    def _feed_event(self, event: dict[str, Any], pieces: list[Piece]) -> None:
        kind = event.get("type")
        if kind == "content_block_delta":
            self._feed_block(event["delta"], pieces)
        elif kind == "content_block_start":
            self._feed_block(event["content_block"], pieces)
        elif kind == "message_start":
            self._note_start(event["message"])
            # Only a first guess; a stream that loses its `message_delta` has no output count.
            self._usage.pop("output_tokens", None)
            self._count(pieces)
        elif kind == "message_delta":
            self._note_end(event["delta"])
            self._note_usage(event.get("usage"))
            self._count(pieces)
        elif kind == "message_stop":
            self.done = True
        elif kind == "error" or event.get("error"):
            raise WireError(event.get("error") or {"type": "api_error"})

    def _count(self, pieces: list[Piece]) -> None:
        """Say what was counted so far, in case that the rest does not come."""
        if self._usage and (meters := read_usage({"output_tokens": 0, **self._usage})):
            pieces.append(Counted(meters, "output_tokens" in self._usage))

    def _feed_block(self, block: dict[str, Any], pieces: list[Piece]) -> None:
        if text := block.get("text"):
            self._text.say(text, pieces)
        elif thinking := block.get("thinking"):
            self._reasoning.say(thinking, pieces)

    def _note_start(self, message: dict[str, Any]) -> None:
        self._id, self._model = message.get("id"), message.get("model")
        self._note_usage(message.get("usage"))

    def _note_end(self, delta: dict[str, Any]) -> None:
        if reason := delta.get("stop_reason"):
            self._finish_reason = _FINISH.get(reason, "other")

    def _note_usage(self, usage: Any) -> None:
        """Later counts replace earlier ones: they are cumulative, not added up."""
        if isinstance(usage, dict):
            self._usage.update({name: usage[name] for name in _USAGE if usage.get(name) is not None})


def merge(call: Call) -> list[dict[str, Any]]:
    """The talk as this wire wants it: no system and no blank message, roles in turns, the user's first."""
    merged: list[dict[str, Any]] = []
    for line in call.messages:
        content = [_block(piece) for piece in pieces_of(line, call)] if line.parts else line.content
        if line.role == "system" or not (line.parts or line.content.strip()):
            continue
        if merged and merged[-1]["role"] == line.role:
            merged[-1]["content"] = _joined(merged[-1]["content"], content)
        else:
            merged.append({"role": line.role, "content": content})
    if merged and merged[0]["role"] != "user":
        merged.insert(0, {"role": "user", "content": CONTINUE})
    return merged


def _joined(before: Any, after: Any) -> Any:
    """Two contents as one: a text, or a list of blocks where one of them has images."""
    if isinstance(before, str) and isinstance(after, str):
        return f"{before}\n\n{after}"
    return [*_blocks(before), *_blocks(after)]


def _blocks(content: Any) -> list[dict[str, Any]]:
    return [_block(content)] if isinstance(content, str) else content


def _block(piece: str | tuple[str, str]) -> dict[str, Any]:
    if isinstance(piece, str):
        return {"type": "text", "text": piece}
    media_type, data = piece
    return {"type": "image", "source": {"type": "base64", "media_type": media_type, "data": data}}


def read_usage(usage: dict[str, Any]) -> Meters | None:
    """The meters, which are disjoint on this wire; None where it gave no output count."""
    counts = {name: value for name, value in usage.items() if isinstance(value, int) and value >= 0}
    if "output_tokens" not in counts:
        return None
    details = usage.get("output_tokens_details")
    thinking = details.get("thinking_tokens") if isinstance(details, dict) else None
    output = counts["output_tokens"]
    return Meters(
        counts.get("input_tokens", 0),
        counts.get("cache_read_input_tokens", 0),
        counts.get("cache_creation_input_tokens", 0),
        output,
        min(thinking, output) if isinstance(thinking, int) and thinking > 0 else 0,
    )


def account_headers(environ: Mapping[str, str]) -> dict[str, str]:
    """The headers that Anthropic's own SDK sends for ANTHROPIC_CUSTOM_HEADERS."""
    return custom_headers(environ.get("ANTHROPIC_CUSTOM_HEADERS", ""))


def wire_headers(key: str) -> dict[str, str]:
    return {**auth_headers(key), "anthropic-version": API_VERSION}
