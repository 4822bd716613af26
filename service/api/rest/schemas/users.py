"""The shapes of users."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from service.api.body import Body, Spelled
from service.api.rest.schemas.conversations import Tag
from service.api.rest.schemas.limits import AllowanceIn

# Words of printable characters with single spaces between them.
NAME = r"^[^\s\x00-\x1f\x7f]+( [^\s\x00-\x1f\x7f]+)*$"
ADDRESS = r"^[^@\s\x00-\x1f\x7f]+@[^@\s\x00-\x1f\x7f]+$"

WORDS = Spelled(NAME, "Only printable characters are taken, with single spaces between words")
Username = Annotated[str, Field(min_length=1, max_length=100), WORDS]
Email = Annotated[str, Field(min_length=3, max_length=254), Spelled(ADDRESS, "An address has one @ and no spaces")]
ExternalId = Annotated[str, Field(min_length=1, max_length=200), WORDS]
Tags = Annotated[list[Tag], Field(max_length=32)]
Role = Literal["user", "admin"]


class SettingsIn(Body):
    """Settings to change; those left out stay."""

    notifications_enabled: bool = Field(True, description="Whether the user wants to be notified.")
    theme: Annotated[str, Field(min_length=1, max_length=32)] = Field("system", description="`light`, `dark`, …")


class UserIn(Body):
    """A new user."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"username": "ada", "email": "ada@example.org", "tags": ["staff"]}}
    )

    username: Username
    email: Email | None = None
    role: Role = "user"
    tags: Tags = Field(default_factory=list)
    external_id: ExternalId | None = Field(None, description="What your own system calls this user.")
    settings: SettingsIn = SettingsIn()


class AccountIn(Body):
    """What users may change of their account; what is left out stays, a null email is removed."""

    username: Username = Field("", validate_default=False)
    email: Email | None = None


class UserPut(Body):
    """A user's own changes."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "user": {"username": "ada", "email": "ada@example.org"},
                "settings": {"notifications_enabled": False, "theme": "dark"},
            }
        }
    )

    user: AccountIn = AccountIn()
    settings: SettingsIn = SettingsIn()


class UserPatch(AllowanceIn):
    """What only an admin may change; what is left out stays."""

    model_config = ConfigDict(json_schema_extra={"example": {"role": "admin", "disabled": False}})

    role: Role | None = None
    tags: Tags | None = None
    disabled: bool | None = None


class SettingsOut(BaseModel):
    """All settings of a user."""

    model_config = ConfigDict(from_attributes=True)

    notifications_enabled: bool
    theme: str


class UserOut(BaseModel):
    """A user."""

    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={
            "example": {
                "id": 17,
                "username": "ada",
                "email": "ada@example.org",
                "role": "user",
                "external_id": None,
                "tags": ["staff"],
                "settings": {"notifications_enabled": True, "theme": "system"},
                "disabled": False,
                "created_at": "2026-11-23T10:00:00Z",
                "updated_at": "2026-11-23T10:00:00Z",
            }
        },
    )

    id: int
    username: str
    email: str | None
    role: Role
    external_id: str | None
    tags: list[str]
    settings: SettingsOut
    disabled: bool
    created_at: datetime
    updated_at: datetime


class ReceiptOut(BaseModel):
    """What an erasure removed, by table, and what it kept: ledger entries hold only the user's number."""

    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={
            "example": {
                "user_id": 17,
                "erased": {
                    "conversations": 2,
                    "messages": 9,
                    "search_documents": 9,
                    "completions": 4,
                    "attempts": 4,
                    "events": 31,
                    "keys": 1,
                },
                "kept": {"ledger_entries": 4},
                "overwritten": True,
            }
        },
    )

    user_id: int
    erased: dict[str, int]
    kept: dict[str, int]
    overwritten: bool = Field(
        description="Nothing of it is left in the free space of the database's file. On SQLite it follows within "
        "minutes where it could not be done at once; on Postgres it is up to VACUUM, and this is false."
    )
