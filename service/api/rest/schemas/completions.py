"""The shapes of completions."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from service.api.body import NUMBER, Body
from service.api.rest.schemas.conversations import ModelName
from service.api.rest.schemas.messages import Id, MessageIn
from service.api.rest.schemas.parts import Content, Text
from service.turns.opening import Sampling

Status = Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]
Temperature = Annotated[float, Field(ge=0, le=2), NUMBER]
Fallbacks = Annotated[list[ModelName], Field(max_length=5)] | None
OnConflict = Literal["reject", "queue", "interrupt", "branch"]
MaxTokens = Annotated[int, Field(ge=1, le=10_000_000), NUMBER]


class SamplingIn(Body):
    """How the model is to answer; what is left out is the provider's to choose."""

    temperature: Temperature | None = None
    max_tokens: MaxTokens | None = None
    top_p: Annotated[float, Field(gt=0, le=1), NUMBER] | None = None
    stop: Annotated[list[Annotated[str, Field(min_length=1, max_length=200)]], Field(max_length=4)] = []
    seed: Annotated[int, Field(ge=0, le=2**53 - 1), NUMBER] | None = None

    def sampling(self) -> Sampling:
        return Sampling(self.temperature, self.max_tokens, self.top_p, tuple(self.stop), self.seed)


class TurnBase(SamplingIn):
    """What every body has that asks a model. Without `fallbacks` those of the model's own are used."""

    model: ModelName | None = None
    fallbacks: Fallbacks = None
    on_conflict: OnConflict = "reject"


class ChatIn(TurnBase):
    """Messages for a model. With a `conversation_id` they are appended to it and it is sent along."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "model": "smollm2-135m-instruct",
                "messages": [{"role": "user", "content": "What is the capital of France?"}],
            }
        }
    )

    messages: Annotated[list[MessageIn], Field(min_length=1, max_length=1000)]
    temperature: Temperature | None = 0.7
    max_tokens: MaxTokens | None = 1000
    stream: bool = False
    conversation_id: Id | None = None
    store: bool = True


class ModelPromptIn(SamplingIn):
    """One question for a model that the address names."""

    model_config = ConfigDict(json_schema_extra={"example": {"prompt": "Tell me a story of two sentences."}})

    prompt: Text
    temperature: Temperature | None = 0.7
    max_tokens: MaxTokens | None = 1000
    conversation_id: Id | None = None
    store: bool = True
    fallbacks: Fallbacks = None
    on_conflict: OnConflict = "reject"


class PromptIn(ModelPromptIn):
    """One question."""

    model: ModelName | None = None


class ShortPromptIn(PromptIn):
    """One question, with a short answer unless more is asked for."""

    max_tokens: MaxTokens | None = 100
    stream: bool = False


class TurnIn(TurnBase):
    """The next question of a conversation. A `parent_id` that was answered already gets a sibling."""

    model_config = ConfigDict(json_schema_extra={"example": {"content": "And of Italy?", "stream": False}})

    content: Content
    parent_id: Id | None = None
    stream: bool = False


class RegenerateIn(TurnBase):
    """Another answer: beside the message `message_id`, or beside the last one; by another model, if one is named."""

    model_config = ConfigDict(json_schema_extra={"example": {"temperature": 1.2}})

    message_id: Id | None = None
    stream: bool = False


class CompareIn(SamplingIn):
    """One question for several models. Without a `conversation_id` it is the first of a new conversation."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "models": ["gpt-5-mini", "claude-haiku-4-5"],
                "messages": [{"role": "user", "content": "What is the capital of France?"}],
            }
        }
    )

    messages: Annotated[list[MessageIn], Field(min_length=1, max_length=1000)]
    models: Annotated[list[ModelName], Field(min_length=1, max_length=10)]
    temperature: Temperature | None = 0.7
    max_tokens: MaxTokens | None = 1000
    conversation_id: Id | None = None
    parent_id: Id | None = None
    store: bool = True

    @field_validator("parent_id")
    @classmethod
    def check_parent(cls, parent_id: int | None, told: ValidationInfo) -> int | None:
        if parent_id is not None and told.data.get("conversation_id", 0) is None:
            raise PydanticCustomError("parent_alone", "A parent is named together with its `conversation_id`.")
        return parent_id


class UsageOut(BaseModel):
    """Disjoint meters in tokens, but for reasoning_tokens, which are part of output_tokens."""

    model_config = ConfigDict(from_attributes=True)

    input_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    output_tokens: int
    reasoning_tokens: int


class CompletionReply(BaseModel):
    """A finished turn. `id` is the assistant message's, or the completion's where nothing was to be stored."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": "msg_18",
                "completion_id": 9,
                "conversation_id": 9,
                "message_id": 18,
                "model": "smollm2-135m-instruct",
                "provider": "local",
                "status": "completed",
                "content": "The capital of France is Paris.",
                "reasoning": None,
                "finish_reason": "stop",
                "usage": {
                    "input_tokens": 37,
                    "cache_read_tokens": 0,
                    "cache_write_tokens": 0,
                    "output_tokens": 8,
                    "reasoning_tokens": 0,
                },
                "cost_usd": "0",
                "warnings": [],
            }
        }
    )

    id: str
    completion_id: int
    conversation_id: int | None
    message_id: int | None
    model: str
    provider: str
    status: Status
    content: str
    reasoning: str | None
    finish_reason: str | None
    usage: UsageOut
    cost_usd: str | None
    warnings: list[str]


class CompletionItem(BaseModel):
    """The record of a turn, without its text. `cost_usd` is null where nobody knows a price."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    user_id: int
    conversation_id: int | None
    message_id: int | None
    model: str
    provider: str
    temperature: float | None
    max_tokens: int | None
    parameters: dict[str, Any] = Field(
        description="What else was asked for (`top_p`, `stop`, `seed`, `fallbacks`), the place in a comparison "
        "(`compared`), and what the service asked for by itself (`purpose`)."
    )
    streamed: bool
    stored: bool
    status: Status
    finish_reason: str | None
    error_code: str | None
    error_detail: str | None
    warnings: list[str]
    attempt_count: int
    first_token_ms: int | None
    duration_ms: int | None
    created_at: datetime
    finished_at: datetime | None
    usage: UsageOut | None
    cost_usd: str | None


class AttemptOut(BaseModel):
    """One call to a provider."""

    number: int
    provider: str
    upstream_model: str
    upstream_id: str | None
    status: Status
    error_kind: str | None
    error_detail: str | None
    started_at: datetime
    finished_at: datetime | None


class EntryOut(UsageOut):
    """What one attempt used and cost. `provenance` says who counted: the provider, or an estimate."""

    id: int
    attempt: int
    kind: str
    model: str
    provider: str
    conversation_id: int | None
    key_id: int | None
    cost_usd: str | None
    price_source: str
    price_version: str
    provenance: str
    created_at: datetime


class CompletionOut(CompletionItem):
    """One completion with its text, the attempts at it and its ledger entries."""

    content: str | None
    reasoning: str | None
    attempts: list[AttemptOut]
    entries: list[EntryOut]
