"""A conversation on its way in: what every foreign shape is read into, clean and within the house's bounds."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from math import isfinite
from typing import Any

from service.domain.parts import ImagePart, TextPart
from service.domain.text import clean

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LATEST = 253_402_300_799.0
ROLES = ("system", "user", "assistant")
STATUSES = ("completed", "incomplete", "failed", "cancelled")
LONGEST_TEXT = 1_000_000
LONGEST_PROMPT = 500_000
LONGEST_METADATA = 4_000_000
MOST_FIELDS, MOST_TAGS, DEEPEST = 64, 32, 250

Shape = dict[str, Any]


class UnreadableError(ValueError):
    """An item that cannot become a conversation; the message says why, without quoting it."""


@dataclass(frozen=True, slots=True)
class Node:
    """A message of a foreign tree. `parent` names a node that may be dropped, or missing altogether."""

    source_id: str
    parent: str | None
    role: str
    content: str
    reasoning: str | None = None
    status: str = "completed"
    model: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    created_at: datetime | None = None
    parts: tuple[TextPart | ImagePart, ...] = ()


@dataclass(slots=True)
class Talk:
    """A conversation of a foreign tree.

    `dropped` has the parents of the nodes that hold nothing: what follows them goes on after the nearest that was kept.
    `left_out` counts what the house has no place for, by kind. `exact`: no title is none, no leaf is none, and a
    conversation may be empty, as our own files say it; elsewhere these are guessed, or a reason to skip it.
    """

    source: str
    source_id: str
    title: str | None = None
    system_prompt: str | None = None
    model: str | None = None
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    archived: bool = False
    pinned: bool = False
    created_at: datetime | None = None
    updated_at: datetime | None = None
    active_at: datetime | None = None
    leaf: str | None = None
    nodes: list[Node] = field(default_factory=list)
    dropped: dict[str, str | None] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)
    exact: bool = False

    def text(self, value: object, most: int = LONGEST_TEXT) -> str:
        """A text that can be stored; what is longer is cut, and counted."""
        if not isinstance(value, str):
            return ""
        found = clean(value)
        if len(found) > most:
            self.left_out["characters"] += len(found) - most
        return found[:most]

    def short(self, value: object, most: int) -> str | None:
        """A name of at most `most` characters, or None."""
        return self.text(value, most) or None

    def exactly(self, value: object, most: int = LONGEST_TEXT) -> str | None:
        """A text as it is, also an empty one; None where there is none."""
        return self.text(value, most) if isinstance(value, str) else None

    def extras(self, value: object) -> Shape:
        """Metadata that can be stored; what is too much of it is left out, and counted."""
        if not isinstance(value, dict) or not value:
            return {}
        found = tidy(value)
        if len(found) > MOST_FIELDS or len(json.dumps(found)) > LONGEST_METADATA:
            self.left_out["metadata"] += 1
            return {}
        return found  # type: ignore[no-any-return]  # the same shape as went in

    def labels(self, value: object) -> tuple[str, ...]:
        """Tags, each once, sorted; those that are too many or no text are left out, and counted."""
        given = value if isinstance(value, list) else []
        names = [one.get("name") if isinstance(one, dict) else one for one in given]
        found = sorted({clean(one)[:100] for one in names if isinstance(one, str) and one})
        if lost := len(given) - len(found[:MOST_TAGS]):
            self.left_out["tags"] += lost
        return tuple(found[:MOST_TAGS])


def tidy(value: Any, depth: int = 0) -> Any:
    """JSON that both databases take: no NUL, no lone surrogate, no NaN, not too deep. Raises UnreadableError."""
    if depth > DEEPEST:
        raise UnreadableError(f"Its metadata is nested deeper than {DEEPEST} levels.")
    match value:
        case str():
            return clean(value)
        case float():
            return value if isfinite(value) else None
        case list():
            return [tidy(one, depth + 1) for one in value]
        case dict():
            return {clean(str(key)): tidy(one, depth + 1) for key, one in value.items()}
    return value


def name_of(value: object) -> str | None:
    """What a source calls a thing, as text of at most 200 characters; a longer name is hashed."""
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        return None
    text = clean(str(value))
    return text if len(text) <= 200 else f"sha256:{sha256(text.encode()).hexdigest()}"


def moment_of(value: object) -> datetime | None:
    """A moment from seconds, milli-, micro- or nanoseconds since 1970, or from ISO 8601; None for anything else."""
    if isinstance(value, str):
        return _parsed(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e19:
        return None
    seconds = value
    # The same moments in finer units are larger by a thousand each: 1e11 seconds are the year 5138.
    for _ in range(3):
        if seconds >= 1e11:
            seconds /= 1000
    return EPOCH + timedelta(microseconds=round(seconds * 1_000_000)) if seconds < LATEST else None


def _parsed(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
