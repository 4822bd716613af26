"""The rows that the checker reads, with the columns that torture/databases.py names."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Conversation:
    user_id: int
    id: int
    title: str | None
    system_prompt: str | None
    active_leaf_id: int | None
    message_count: int


@dataclass(frozen=True, slots=True)
class Message:
    user_id: int
    id: int
    conversation_id: int
    parent_id: int | None
    line_id: int
    depth: int
    role: str
    content: str
    reasoning: str | None
    status: str
    completion_id: int | None


@dataclass(frozen=True, slots=True)
class Completion:
    user_id: int
    id: int
    conversation_id: int | None
    message_id: int | None
    model: str
    provider: str
    temperature: float | None
    max_tokens: int | None
    streamed: bool
    stored: bool
    status: str
    finish_reason: str | None
    error_code: str | None
    attempt_count: int
    input_tokens: int | None
    cache_read_tokens: int | None
    cache_write_tokens: int | None
    output_tokens: int | None
    reasoning_tokens: int | None
    cost_nano: int | None
    epoch: int


@dataclass(frozen=True, slots=True)
class Attempt:
    user_id: int
    completion_id: int
    number: int
    provider: str
    upstream_model: str
    status: str
    error_kind: str | None


@dataclass(frozen=True, slots=True)
class Journalled:
    """A row of events: `data` is a JSON list whose first has the number `seq`. One with `spans` was folded."""

    user_id: int
    completion_id: int
    seq: int
    last_seq: int
    data: str
    spans: str | None = None
    said: str | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    user_id: int
    id: int
    completion_id: int
    attempt: int
    kind: str
    key_id: int | None
    model: str
    provider: str
    input_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    output_tokens: int
    reasoning_tokens: int
    cost_nano: int | None
    provenance: str
    error_kind: str | None
    second: int


@dataclass(frozen=True, slots=True)
class Usage:
    """A row of the rollups, or one that is still to be folded into them, which has no `span`."""

    user_id: int
    start: int
    model: str
    provider: str
    key_id: int
    requests: int
    errors: int
    unpriced: int
    input_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    output_tokens: int
    reasoning_tokens: int
    cost_nano: int
    span: int = 0
