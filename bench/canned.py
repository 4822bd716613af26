"""The canned answers: one marked word a chunk, so that whoever counts marks counts the provider's chunks."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

MARK = "~"
PROMPT_TOKENS = 24
EVENTS_A_WRITE = 8
_NAME = re.compile(r"canned-(\d{1,5})(?:-(\d{1,4})ms)?")


@dataclass(frozen=True, slots=True)
class Plan:
    """What a model's name asks for: this many chunks, and the seconds between two of them (0: no pause)."""

    chunks: int
    pace: float


def plan(model: str) -> Plan | None:
    """`canned-64` is 64 chunks at once, `canned-64-20ms` one every 20 ms, the first at once; None: not such a name."""
    match = _NAME.fullmatch(model)
    if match is None:
        return None
    return Plan(int(match[1]), int(match[2] or 0) / 1000)


def words(chunks: int) -> list[str]:
    """The answer's pieces, each with one mark."""
    return [f"{MARK}{number:04d} " for number in range(chunks)]


def text(model: str) -> str:
    """The whole answer of a model. Raises ValueError for a name that is none."""
    found = plan(model)
    if found is None:
        raise ValueError(f"{model} is not canned-<chunks>[-<pause>ms]")
    return "".join(words(found.chunks))


def usage(chunks: int) -> dict[str, int]:
    """OpenAI's usage object: one output token a chunk."""
    return {
        "prompt_tokens": PROMPT_TOKENS,
        "completion_tokens": chunks,
        "total_tokens": PROMPT_TOKENS + chunks,
    }


def completion(model: str, chunks: int) -> bytes:
    """The reply in one piece."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": "".join(words(chunks)), "refusal": None},
        "logprobs": None,
        "finish_reason": "stop",
    }
    return json.dumps(
        {
            "id": "chatcmpl-canned",
            "object": "chat.completion",
            "created": 1700000000,
            "model": model,
            "choices": [choice],
            "usage": usage(chunks),
        }
    ).encode()


def events(model: str, chunks: int, *, include_usage: bool) -> list[bytes]:
    """The stream's server-sent events: the role with the first word, the words, the reason, usage, `[DONE]`."""
    pieces = [{"content": word} for word in words(chunks)]
    pieces[:1] = [{"role": "assistant", **piece} for piece in pieces[:1]]
    out = [_chunk(model, piece, None, include_usage) for piece in pieces]
    out.append(_chunk(model, {}, "stop", include_usage))
    if include_usage:
        out.append(_event({**_head(model), "choices": [], "usage": usage(chunks)}))
    out.append(b"data: [DONE]\n\n")
    return out


def _head(model: str) -> dict[str, object]:
    return {"id": "chatcmpl-canned", "object": "chat.completion.chunk", "created": 1700000000, "model": model}


def _chunk(model: str, delta: dict[str, str], reason: str | None, include_usage: bool) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
    extra: dict[str, object] = {"usage": None} if include_usage else {}
    return _event({**_head(model), "choices": [choice], **extra})


def _event(data: dict[str, object]) -> bytes:
    return b"data: " + json.dumps(data, separators=(",", ":")).encode() + b"\n\n"
