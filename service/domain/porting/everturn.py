"""Everturn's own shape, JSON Lines: each line has a `type`; a conversation's line is followed by its messages' lines.

docs/porting.md describes it. Keys are sorted wherever a database may have put them in another order, so that the same
conversation is the same bytes.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from service.domain.parts import ImagePart, TextPart, images_of
from service.domain.parts import read as read_parts
from service.domain.porting import carried
from service.domain.porting.talks import (
    LONGEST_PROMPT,
    ROLES,
    STATUSES,
    Node,
    Shape,
    Talk,
    UnreadableError,
    moment_of,
    name_of,
)

SOURCE = "everturn"
VERSION = 1
# What the account's lines tell is not restored: a charge is made by a turn, never by a file.
INFORMATION = ("export", "user", "key", "completion", "ledger_entry", "end")
FLAGS = ("archived", "pinned")
MOMENTS = ("created_at", "updated_at", "active_at")
STRUCTURE = ("conversation", "message")


def recognise(item: Shape) -> bool:
    return item.get("type") in INFORMATION + STRUCTURE + carried.KINDS


class Gatherer:
    """Puts the lines of a file together; a conversation is whole when another line than a message's follows it."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._size = 0
        self._talk: Talk | None = None
        self._problem = ""
        self.skipped: dict[str, int] = {}

    def add(self, item: Shape, size: int) -> "Talk | UnreadableError | None":
        """Take a line of `size` bytes; return the conversation that it completes, or why that one cannot be read."""
        kind = item["type"]
        if kind == "message":
            return self._add_message(item, size)
        done = self.finish()
        if kind == "conversation":
            try:
                self._talk, self._problem, self._size = _talk(item), "", size
            except UnreadableError as error:
                return error
        elif kind not in ("export", "end"):
            self.skipped[kind] = self.skipped.get(kind, 0) + 1
        return done

    def finish(self, cut: bool = False) -> "Talk | UnreadableError | None":
        """The conversation that was being gathered, if any; where the file was `cut` off it is not whole."""
        talk, self._talk = self._talk, None
        if talk is None:
            return None
        problem = "The file ends here without its end line: the rest is missing." if cut else self._problem
        return BrokenTalkError(problem, talk) if problem else talk

    def _add_message(self, item: Shape, size: int) -> "UnreadableError | None":
        talk = self._talk
        if talk is None:
            return UnreadableError("A message's line stands without its conversation's.")
        self._size += size
        if self._size > self._most:
            self._problem = f"It has more than {self._most:,} bytes."
            talk.nodes.clear()
        if not self._problem:
            try:
                _add(talk, item)
            except UnreadableError as error:
                self._problem = str(error)
        return None

    def spoil(self, error: UnreadableError) -> bool:
        """A line is broken: then the conversation that it belongs to is not whole. False where there is none."""
        self._problem = self._problem or f"One of its lines is broken. {error}"
        return self._talk is not None


class BrokenTalkError(UnreadableError):
    """A conversation whose lines were not all good."""

    def __init__(self, message: str, talk: Talk) -> None:
        super().__init__(message)
        self.talk = talk


def _talk(item: Shape) -> Talk:
    source, name = item.get("source"), name_of(item.get("id"))
    if name is None or not isinstance(source, str) or not 0 < len(source) <= 32:
        raise UnreadableError("The conversation's line has no id or no source.")
    talk = Talk(source, name, exact=True)
    talk.title = talk.exactly(item.get("title"), 300)
    talk.system_prompt = talk.exactly(item.get("system_prompt"), LONGEST_PROMPT)
    talk.model = talk.exactly(item.get("model"), 200)
    talk.tags = talk.labels(item.get("tags"))
    talk.metadata = talk.extras(item.get("metadata"))
    for flag in FLAGS:
        setattr(talk, flag, item.get(flag) is True)
    for moment in MOMENTS:
        setattr(talk, moment, moment_of(item.get(moment)))
    talk.leaf = name_of(item.get("active_leaf"))
    return talk


def _add(talk: Talk, item: Shape) -> None:
    name, role = name_of(item.get("id")), item.get("role")
    parent = name_of(item.get("parent"))
    if name is None or role not in ROLES:
        talk.left_out["message"] += 1
        return
    status = item.get("status", "completed")
    if status not in STATUSES:
        # It was being written when the file was made: another export has it whole.
        talk.left_out["in_progress"] += 1
        talk.dropped[name] = parent
        return
    content = talk.text(item.get("content"))
    talk.nodes.append(
        Node(
            source_id=name,
            parent=parent,
            role=role,
            content=content,
            reasoning=talk.exactly(item.get("reasoning")),
            status=status,
            model=talk.exactly(item.get("model"), 200),
            metadata=talk.extras(item.get("metadata")),
            created_at=moment_of(item.get("created_at")),
            parts=_parts(talk, item, content),
        )
    )


def _parts(talk: Talk, item: Shape, content: str) -> tuple[TextPart | ImagePart, ...]:
    """The parts of a message with images. Where they are not as the export writes them, or nobody could have said them
    here, the text is left alone."""
    given = item.get("parts")
    if not given:
        return ()
    try:
        parts = read_parts(given, content)
    except (AttributeError, KeyError, TypeError, ValueError):
        talk.left_out["parts"] += 1
        return ()
    if item["role"] != "user":
        talk.left_out["images"] += len(images_of(parts))
        return ()
    return parts


def native_name(number: int, created_at: datetime) -> str:
    """What a conversation or a message of ours is called outside: no two databases give one number in one moment."""
    return f"{number}@{stamp(created_at)}"


def native_number(name: str) -> tuple[int, datetime] | None:
    """The number and the moment of such a name."""
    number, _, moment = name.partition("@")
    found = moment_of(moment)
    return (int(number), found) if found and number.isascii() and number.isdigit() and len(number) < 17 else None


def stamp(moment: datetime) -> str:
    """A moment in UTC, always to the microsecond."""
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def line(kind: str, fields: Mapping[str, Any]) -> bytes:
    """One line of the file. Metadata and settings have their keys sorted; moments are spelled alike."""
    shown = {"type": kind, **{name: _plain(value) for name, value in fields.items()}}
    return json.dumps(shown, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _plain(value: Any) -> Any:
    match value:
        case datetime():
            return stamp(value)
        case dict():
            return {key: _plain(value[key]) for key in sorted(value)}
        case list() | tuple():
            return [_plain(one) for one in value]
    return value
