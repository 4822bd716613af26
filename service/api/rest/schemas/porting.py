"""The lines of an import's report."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class SummaryOut(BaseModel):
    """The last line's `summary`."""

    model_config = ConfigDict(from_attributes=True)

    items: int
    outcomes: dict[str, int]
    messages_added: int
    left_out: dict[str, int]
    repaired: dict[str, int]


class OutcomeOut(BaseModel):
    """What became of one item of an import."""

    model_config = ConfigDict(from_attributes=True)

    item: int = Field(description="Its place in the upload, from 1.")
    file: str = Field(description="The file in the archive, or `upload`.")
    outcome: Literal["imported", "updated", "unchanged", "skipped", "failed"]
    source: str | None = Field(None, description="`chatgpt`, `openwebui` or `everturn`.")
    source_id: str | None = Field(None, description="What the source calls it; the same one is met again, not doubled.")
    title: str | None = None
    conversation_id: int | None = None
    messages: int = Field(0, description="How many the item holds.")
    added: int = Field(0, description="How many of them are new.")
    left_out: dict[str, int] = Field({}, description="What has no place here, counted by kind.")
    repaired: dict[str, int] = Field({}, description="What was broken in its tree, counted by kind.")
    reason: str | None = Field(None, description="Why it was skipped, or failed.")


class ReportLine(BaseModel):
    """A line of the report: an item's, then one with the summary, or one with the error that ended it."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "item": {
                    "item": 1,
                    "file": "conversations-000.json",
                    "outcome": "imported",
                    "source": "chatgpt",
                    "source_id": "7f0c3e0e-1f6f-4d43-9f0e-2b1a4d8f4f11",
                    "title": "Blue sky",
                    "conversation_id": 9,
                    "messages": 12,
                    "added": 12,
                    "left_out": {"image_asset_pointer": 1},
                    "repaired": {},
                    "reason": None,
                }
            }
        }
    )

    item: OutcomeOut | None = None
    summary: SummaryOut | None = None
    error: dict[str, Any] | None = None
