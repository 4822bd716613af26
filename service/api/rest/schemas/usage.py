"""The shapes of usage reports and ledger entries."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from service.api.rest.schemas.completions import UsageOut

GroupName = Literal["user", "model", "provider", "key", "conversation", "tag"]
BucketName = Literal["hour", "day", "week", "month"]


SOME: dict[str, Any] = {
    "requests": 3,
    "errors": 0,
    "unpriced": 0,
    "input_tokens": 71,
    "cache_read_tokens": 0,
    "cache_write_tokens": 0,
    "output_tokens": 190,
    "reasoning_tokens": 0,
    "cost_usd": "0.000451",
}


class Named(BaseModel):
    """What tells a group from others: the fields of the groups that were asked for, and no others."""

    user_id: int | None = Field(None, description="Null: erased users.")
    username: str | None = None
    model: str | None = None
    provider: str | None = None
    key_id: int | None = None
    key_name: str | None = None
    conversation_id: int | None = None
    tag: str | None = Field(None, description="A tag of the conversation. Null: none, or the conversation is gone.")


class Span(BaseModel):
    """From `start` to before `end`."""

    start: datetime
    end: datetime


class Sums(BaseModel):
    """What was used: provider calls, those of them that failed, those without a price; meters; the cost."""

    requests: int = Field(description="Calls to providers; a retry is another one.")
    errors: int
    unpriced: int = Field(description="Calls that nobody knows a price for. `cost_usd` is without them.")
    input_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    output_tokens: int
    reasoning_tokens: int = Field(description="Part of `output_tokens`.")
    cost_usd: str | None = Field(description="Exact. Null where nothing of it has a price.")


class GroupOut(Sums, Named):
    """Usage of one group in a bucket."""


class BucketOut(Sums, Span):
    """Usage in one bucket."""

    groups: list[GroupOut]


class UsageReport(BaseModel):
    """Usage by bucket and group; empty buckets are there too."""

    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={
            "example": {
                "since": "2026-03-29T00:00:00+01:00",
                "until": "2026-03-30T00:00:00+02:00",
                "bucket": "day",
                "timezone": "Europe/Berlin",
                "group_by": ["model"],
                "total": SOME,
                "unpriced_models": [],
                "buckets": [
                    {
                        "start": "2026-03-29T00:00:00+01:00",
                        "end": "2026-03-30T00:00:00+02:00",
                        **SOME,
                        "groups": [{"model": "gpt-4.1-mini", **SOME}],
                    }
                ],
            }
        },
    )

    since: datetime
    until: datetime
    bucket: BucketName
    timezone: str
    group_by: list[GroupName]
    total: Sums
    unpriced_models: list[str] = Field(description="Models with calls that nobody knows a price for.")
    buckets: list[BucketOut]


class LedgerEntryOut(UsageOut):
    """What one call used and cost, or a correction of that. Entries are written once and never changed."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    user_id: int
    completion_id: int
    attempt: int
    revision: int = Field(description="0 for the charge; its corrections count up.")
    kind: Literal["charge", "correction"]
    model: str
    provider: str
    conversation_id: int | None
    key_id: int | None
    cost_usd: str | None = Field(description="Exact; of a correction what it adds. Null: nobody knows a price.")
    price_source: str
    price_version: str
    provenance: str = Field(
        description="What the cost stands on: counts of the `provider`, of whom a part (`partial`), `estimated` ones; "
        "or nothing, as it is `unpriced`."
    )
    counted_by: str = Field(description="The same of the meters alone, also where they have no price.")
    error_kind: str | None
    created_at: datetime = Field(description="When it was used.")
    booked_at: datetime = Field(description="When the entry was written.")
