"""The frames of both wires: what a call's answer looks like to the one who reads it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

NUL = "\0"
ANTHROPIC_ENDS = {"stop": "end_turn", "length": "max_tokens", "content_filter": "refusal"}


@dataclass(frozen=True, slots=True)
class Count:
    """What a call used, in disjoint meters but for `reasoning`, which is part of `output`."""

    input: int
    read: int
    written: int
    output: int
    reasoning: int


@dataclass(frozen=True, slots=True)
class Speech:
    """What is to be said in one call. `count` is None where no usage is told; `first` is told before it, and wrong."""

    id: str
    words: int
    finish: str
    count: Count | None
    first: Count | None = None
    thinks: bool = False
    dirty: bool = False

    def word(self, number: int) -> str:
        """A word that nobody else in the run says; a dirty one holds what no database takes."""
        return f"{self.id}.{number}{NUL if self.dirty else 'é'} "

    def heard(self, number: int) -> str:
        """The same as it has to arrive."""
        return self.word(number).replace(NUL, "\ufffd")

    def thought(self) -> str:
        return f"({self.id})" if self.thinks else ""


@dataclass(frozen=True, slots=True)
class Frame:
    """Bytes on the wire, and what a reader knows once it has them."""

    data: bytes
    text: str = ""
    thought: str = ""
    count: Count | None = None
    finish: bool = False


@dataclass(frozen=True, slots=True)
class Wire:
    """How one of the wires says things."""

    name: str

    def stream(self, speech: Speech) -> Iterator[Frame]:
        """The frames of a stream, words one by one."""
        return _openai(speech) if self.name == "openai" else _anthropic(speech)

    def whole(self, speech: Speech) -> Frame:
        """The answer in one piece."""
        text = "".join(speech.word(number) for number in range(speech.words))
        body = _openai_whole(speech, text) if self.name == "openai" else _anthropic_whole(speech, text)
        heard = "".join(speech.heard(number) for number in range(speech.words))
        return Frame(json.dumps(body).encode(), heard, speech.thought(), speech.count, finish=True)

    def error(self, status: int) -> dict[str, Any]:
        """The body of a refusal, or of an error in the middle of a stream."""
        kinds = {400: "invalid_request_error", 401: "authentication_error", 429: "rate_limit_error"}
        inner = {"type": kinds.get(status, "server_error"), "message": "This is part of the torture."}
        return {"error": inner} if self.name == "openai" else {"type": "error", "error": inner}


def _openai(speech: Speech) -> Iterator[Frame]:
    def chunk(delta: dict[str, Any] | None, finish: str | None = None, **more: Any) -> bytes:
        choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
        return _data({"id": speech.id, "object": "chat.completion.chunk", "choices": choices} | more)

    yield Frame(chunk({"role": "assistant", "content": ""}))
    if speech.thinks:
        yield Frame(chunk({"reasoning_content": speech.thought()}), thought=speech.thought())
    for number in range(speech.words):
        yield Frame(chunk({"content": speech.word(number)}), speech.heard(number))
    yield Frame(chunk({}, speech.finish), finish=True)
    for count in (speech.first, speech.count):
        if count:
            yield Frame(chunk(None, usage=_openai_usage(count)), count=count)
    yield Frame(b"data: [DONE]\n\n")


def _anthropic(speech: Speech) -> Iterator[Frame]:
    count = speech.count
    begun = replace(count, output=0, reasoning=0) if count else None
    start = {"usage": _anthropic_usage(begun) | {"output_tokens": 1}} if begun else {}
    yield Frame(_event("message_start", message={"id": speech.id} | start), count=begun)
    if speech.thinks:
        yield Frame(_event("content_block_start", index=0, content_block={"type": "thinking", "thinking": ""}))
        delta = {"type": "thinking_delta", "thinking": speech.thought()}
        yield Frame(_event("content_block_delta", index=0, delta=delta), thought=speech.thought())
    yield Frame(_event("content_block_start", index=1, content_block={"type": "text", "text": ""}))
    for number in range(speech.words):
        delta = {"type": "text_delta", "text": speech.word(number)}
        yield Frame(_event("content_block_delta", index=1, delta=delta), speech.heard(number))
    yield Frame(_event("content_block_stop", index=1))
    if speech.first:
        yield Frame(_event("message_delta", delta={}, usage=_anthropic_usage(speech.first)), count=speech.first)
    told = {"usage": _anthropic_usage(count)} if count else {}
    reason = {"stop_reason": ANTHROPIC_ENDS[speech.finish]}
    yield Frame(_event("message_delta", delta=reason, **told), count=count, finish=True)
    yield Frame(_event("message_stop"))


def _openai_whole(speech: Speech, text: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": text, "reasoning_content": speech.thought() or None}
    choice = {"index": 0, "message": message, "finish_reason": speech.finish}
    usage = {"usage": _openai_usage(speech.count)} if speech.count else {}
    return {"id": speech.id, "object": "chat.completion", "choices": [choice]} | usage


def _anthropic_whole(speech: Speech, text: str) -> dict[str, Any]:
    thinking = [{"type": "thinking", "thinking": speech.thought()}] if speech.thinks else []
    content = [*thinking, {"type": "text", "text": text}]
    usage = {"usage": _anthropic_usage(speech.count)} if speech.count else {}
    return {"id": speech.id, "content": content, "stop_reason": ANTHROPIC_ENDS[speech.finish]} | usage


def _openai_usage(count: Count) -> dict[str, Any]:
    """This wire's prompt tokens include what the cache gave and took."""
    return {
        "prompt_tokens": count.input + count.read + count.written,
        "completion_tokens": count.output,
        "prompt_tokens_details": {"cached_tokens": count.read, "cache_write_tokens": count.written},
        "completion_tokens_details": {"reasoning_tokens": count.reasoning},
    }


def _anthropic_usage(count: Count) -> dict[str, Any]:
    return {
        "input_tokens": count.input,
        "cache_read_input_tokens": count.read,
        "cache_creation_input_tokens": count.written,
        "output_tokens": count.output,
        "output_tokens_details": {"thinking_tokens": count.reasoning},
    }


def _data(value: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"


def _event(kind: str, **fields: Any) -> bytes:
    return b"event: %b\n" % kind.encode() + _data({"type": kind, **fields})
