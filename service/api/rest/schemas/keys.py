"""The shapes of keys."""

from datetime import datetime
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from service.api.body import NUMBER, Body
from service.domain.callers import KeyKind, Scope

TOKEN = "evt_2_hlhRuZHtuqAOoKeZdkbL80g3o46NDSo80x5l3d"


class KeyIn(Body):
    """A new key."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"name": "laptop", "kind": "user", "scopes": ["read", "write", "complete"]}}
    )

    name: Annotated[str, Field(max_length=100)] = ""
    kind: KeyKind = Field("user", description="Only an admin key makes `service` and `admin` keys.")
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=4)] = Field(
        ["read", "write", "complete"], description="No wider than those of the key that asks."
    )
    expires_at: AwareDatetime | None = Field(None, description="Null for a key that does not expire.")


class RotateIn(Body):
    """How a key is replaced."""

    model_config = ConfigDict(json_schema_extra={"example": {"overlap_seconds": 3600}})

    overlap_seconds: Annotated[
        int, Field(ge=0, le=2_592_000, description="How long the old key stays valid."), NUMBER
    ] = 86_400


class KeyOut(BaseModel):
    """A key without its secret."""

    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={
            "example": {
                "id": 2,
                "user_id": 17,
                "name": "laptop",
                "kind": "user",
                "scopes": ["complete", "read", "write"],
                "created_at": "2026-11-23T10:00:00Z",
                "expires_at": None,
                "revoked_at": None,
                "rotated_to": None,
            }
        },
    )

    id: int
    user_id: int
    name: str
    kind: KeyKind
    scopes: list[Scope]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    rotated_to: int | None = Field(description="The number of the key that replaces this one.")


class NewKeyOut(KeyOut):
    """A new key with its secret."""

    key: str = Field(description="The secret, shown this once.", examples=[TOKEN])
