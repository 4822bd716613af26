"""The shapes of messages."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from fastapi import Path
from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from service.api.body import NUMBER, Body
from service.api.rest.schemas import parts
from service.api.rest.schemas.parts import Content, PartOut
from service.domain.history import Line

Id = Annotated[int, Field(ge=1, le=2**53 - 1), NUMBER]
IdPath = Annotated[int, Path(ge=1, le=2**53 - 1)]
Role = Literal["system", "user", "assistant"]


class MessageIn(Body):
    """One message of a history. Only a user's holds images."""

    role: Role
    content: Content

    @model_validator(mode="after")
    def check_role(self) -> Self:
        if self.role != "user" and parts.has_image(self.content):
            raise PydanticCustomError("image_role", "Only a user's message can hold an image.")
        return self

    def line(self) -> Line:
        return parts.line(self.role, self.content)


class MessageAppend(MessageIn):
    """A message to append, to the active branch or after `parent_id`."""

    model_config = ConfigDict(json_schema_extra={"example": {"role": "user", "content": "One more thing."}})

    parent_id: Id | None = None
    metadata: Annotated[dict[str, Any], Field(max_length=64)] = {}


class ChatMessageIn(MessageIn):
    """A message to store, in a conversation of its own where none is named."""

    model_config = ConfigDict(json_schema_extra={"example": {"role": "user", "content": "Remember the milk."}})

    conversation_id: Id | None = None


class MessageEdit(Body):
    """New content makes a sibling; metadata alone is changed in place."""

    model_config = ConfigDict(json_schema_extra={"example": {"content": "What I meant was this."}})

    content: Content | None = None
    metadata: Annotated[dict[str, Any], Field(max_length=64)] | None = None


class MessageOut(BaseModel):
    """One node of a conversation's tree. The first message has depth 0."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    conversation_id: int
    parent_id: int | None
    depth: int
    role: Role
    content: str
    parts: list[PartOut] | None = Field(None, description="Where it holds images: its text and them, in their order.")
    reasoning: str | None
    status: str
    model: str | None
    completion_id: int | None
    metadata: dict[str, Any]
    created_at: datetime


class Said(BaseModel):
    """A message as it was stored."""

    role: Role
    content: str | list[PartOut]


class Received(BaseModel):
    """What `POST /chat` stored."""

    received: Said
    id: int
    conversation_id: int


class Deleted(BaseModel):
    """How many messages went: the one named and all that followed it."""

    deleted: int
