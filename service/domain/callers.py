"""Who is calling, and for whom."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

KeyKind = Literal["user", "service", "admin"]
Scope = Literal["read", "write", "complete", "provision"]
SCOPES: tuple[Scope, ...] = ("read", "write", "complete", "provision")


@dataclass(frozen=True, slots=True)
class Caller:
    """The holder of a valid key. `user_id` is the key's owner; a service or admin key may act for others."""

    key_id: int
    kind: KeyKind
    user_id: int
    scopes: frozenset[Scope]
    expires_at: datetime | None = None
