"""The shapes of comparisons."""

from typing import Any

from pydantic import BaseModel, Field

from service.api.errors import Invalid, Problem
from service.api.rest.schemas.completions import Status, UsageOut


class CompareResult(BaseModel):
    """What came of asking one model: an answer, or an `error` and what came before it."""

    model: str = Field(description="as it was asked for")
    provider: str | None
    status: Status
    completion_id: int | None = Field(description="null where the model was not asked at all")
    message_id: int | None = Field(description="the answer's; `/activate` picks it")
    content: str | None
    reasoning: str | None
    finish_reason: str | None
    usage: UsageOut | None
    cost_usd: str | None
    latency_ms: int | None = Field(description="from accepting the question to the end of the answer")
    first_token_ms: int | None
    warnings: list[str]
    error: Problem | Invalid | None = None


class CompareReply(BaseModel):
    """The results in the order of the models that were asked for."""

    conversation_id: int | None
    message_id: int | None = Field(description="the question's, whose children the answers are")
    results: list[CompareResult]


def failed(model: str, error: dict[str, Any]) -> dict[str, Any]:
    """The result of a model that was not asked."""
    nothing = dict.fromkeys(name for name in CompareResult.model_fields if name not in ("model", "error"))
    return {**nothing, "model": model, "status": "failed", "warnings": [], "error": error}
