"""The shapes of conversations."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from service.api.body import NUMBER, Body
from service.api.rest.schemas.messages import MessageIn

Tag = Annotated[str, Field(min_length=1, max_length=100)]
Title = Annotated[str, Field(max_length=300)]
Prompt = Annotated[str, Field(max_length=500_000)]
ModelName = Annotated[str, Field(min_length=1, max_length=200)]
ASKED = "Whom its turns ask where they name nobody: one of `GET /models`."
Metadata = Annotated[dict[str, Any], Field(max_length=64)]


class ConversationIn(Body):
    """A new conversation, without messages."""

    model_config = ConfigDict(json_schema_extra={"example": {"title": "Holidays", "tags": ["private"]}})

    title: Title | None = None
    system_prompt: Prompt | None = None
    model: ModelName | None = Field(None, description=ASKED)
    tags: Annotated[list[Tag], Field(max_length=32)] = []
    metadata: Metadata = {}
    archived: bool = False
    pinned: bool = False


class ConversationWithHistory(ConversationIn):
    """A new conversation with the history that it starts with."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "system_prompt": "Answer in one sentence.",
                "messages": [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi!"}],
            }
        }
    )

    messages: Annotated[list[MessageIn], Field(max_length=1000)] = []


class ConversationEdit(Body):
    """What is named is changed; null clears a title, a system prompt or a model."""

    model_config = ConfigDict(json_schema_extra={"example": {"title": "Holidays 2027", "pinned": True}})

    title: Title | None = None
    system_prompt: Prompt | None = None
    model: ModelName | None = Field(None, description=ASKED)
    tags: Annotated[list[Tag], Field(max_length=32)] = Field(default_factory=list)
    metadata: Metadata = Field(default_factory=dict)
    archived: bool = Field(default_factory=bool)
    pinned: bool = Field(default_factory=bool)


class ConversationItem(BaseModel):
    """A conversation as lists show it: without its content."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    user_id: int
    title: str | None
    model: str | None
    message_count: int
    active_leaf_id: int | None
    archived: bool
    pinned: bool
    tags: list[str]
    metadata: dict[str, Any]
    created_at: datetime
    updated_at: datetime
    active_at: datetime


class ForkIn(Body):
    """A copy up to `message_id`, or up to the active leaf."""

    model_config = ConfigDict(json_schema_extra={"example": {"title": "Another way"}})

    message_id: Annotated[int, Field(ge=1, le=2**53 - 1), NUMBER] | None = None
    title: Title | None = None


class ActivateIn(Body):
    """The message after which the conversation goes on."""

    model_config = ConfigDict(json_schema_extra={"example": {"message_id": 18}})

    message_id: Annotated[int, Field(ge=1, le=2**53 - 1), NUMBER]


class ConversationOut(ConversationItem):
    """One conversation."""

    system_prompt: str | None
