"""What is known after a run: four accounts of the same turns, read from a folder of JSON lines.

The client's ledger and the provider's were written while it happened; the rows are the database's; the readings are
what the API said at the end. Nothing here, nor in the checks, knows the service's code.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from torture.folded import unfold
from torture.ledgers import read
from torture.rows import Attempt, Completion, Conversation, Entry, Journalled, Message, Usage

T = TypeVar("T")
# Of the service itself: what libraries complain of at the end of a process is no turn's.
ALARM = re.compile(r"^\S+ error +(service\..*)")


@dataclass(frozen=True, slots=True)
class Asked:
    """A turn that the client wanted once. `tag` travels as `max_tokens`; `key` is None where none was sent."""

    tag: int
    key: str | None
    person: int
    path: str
    body: dict[str, Any]
    question: str | None
    conversation: int | None


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request and what came back. Without an answer in the ledger it `ended` is "unknown"."""

    n: int
    t: float
    method: str
    path: str
    tag: int | None = None
    key: str | None = None
    resumed: int | None = None
    after: int | None = None
    forks: str | None = None
    cancels: int | None = None
    status: int = 0
    ended: str = "unknown"
    completion: int | None = None
    streamed: bool = False
    replayed: bool = False
    text: str = ""
    until: float = 0.0


@dataclass(frozen=True, slots=True)
class Call:
    """A call as the provider saw it, with the most that it can have told. `finish`: the answer's end was written."""

    call: int
    t: float
    mode: str
    worker: str
    tag: int
    stream: bool
    prompt: list[list[str]]
    model: str
    temperature: float | None = None
    status: int = 0
    text: str = ""
    thought: str = ""
    count: dict[str, int] | None = None
    finish: bool = False
    until: float = float("inf")


@dataclass(frozen=True, slots=True)
class Reading:
    """What the API said of a completion when all was over: its record, its whole stream, and one from `after` on."""

    completion: int
    status: int
    record: dict[str, Any]
    stream: str
    after: int
    tail: str


@dataclass(frozen=True, slots=True)
class Fault:
    """One stroke of the nemesis. `target` is a worker's name, "all", "database" or "clients"."""

    t: float
    fault: str
    target: str


@dataclass(frozen=True, slots=True)
class Exit:
    """How a worker ended that was told to, by SIGTERM."""

    target: str
    code: int


@dataclass
class Evidence:
    """Everything, and by what it is looked up. A list may be changed before the first look-up."""

    asks: list[Asked] = field(default_factory=list)
    exchanges: list[Exchange] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    conversations: list[Conversation] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    completions: list[Completion] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    events: list[Journalled] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    rollups: list[Usage] = field(default_factory=list)
    deltas: list[Usage] = field(default_factory=list)
    readings: list[Reading] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    exits: list[Exit] = field(default_factory=list)
    alarms: list[str] = field(default_factory=list)

    @cached_property
    def asked(self) -> dict[int, Asked]:
        return {ask.tag: ask for ask in self.asks}

    @cached_property
    def by_tag(self) -> dict[int, list[Completion]]:
        return group(self.completions, lambda one: one.max_tokens or 0)

    @cached_property
    def calls_of(self) -> dict[int, list[Call]]:
        return group(self.calls, lambda one: one.tag)

    @cached_property
    def exchanges_of(self) -> dict[int, list[Exchange]]:
        """By tag: what was sent for the turn itself, and to follow it."""
        return group((one for one in self.exchanges if one.tag is not None), lambda one: one.tag or 0)

    @cached_property
    def message(self) -> dict[int, Message]:
        return {one.id: one for one in self.messages}

    @cached_property
    def conversation(self) -> dict[int, Conversation]:
        return {one.id: one for one in self.conversations}

    @cached_property
    def attempts_of(self) -> dict[int, list[Attempt]]:
        return group(self.attempts, lambda one: one.completion_id)

    @cached_property
    def events_of(self) -> dict[int, list[Journalled]]:
        return group(self.events, lambda one: one.completion_id)

    @cached_property
    def entries_of(self) -> dict[int, list[Entry]]:
        return group(self.entries, lambda one: one.completion_id)

    @cached_property
    def reading(self) -> dict[int, Reading]:
        return {one.completion: one for one in self.readings}

    @cached_property
    def copies(self) -> set[int]:
        """Conversations that were forked off others: what is in them was said elsewhere."""
        titles = {one.forks for one in self.exchanges if one.forks}
        return {one.id for one in self.conversations if one.title in titles}


@dataclass(frozen=True, slots=True)
class Finding:
    """A promise that was broken. `kind` is Jepsen's word where it has one."""

    kind: str
    what: str


def group(items: Iterable[T], name: Any) -> dict[int, list[T]]:
    """The items by a number of theirs; a number that nobody has gives an empty list."""
    found: dict[int, list[T]] = defaultdict(list)
    for item in items:
        found[name(item)].append(item)
    return found


def load(folder: Path) -> Evidence:
    """The evidence of a run."""
    client, provider = list(read(folder / "client.jsonl")), list(read(folder / "provider.jsonl"))
    tables = {
        "conversations": Conversation,
        "messages": Message,
        "completions": Completion,
        "attempts": Attempt,
        "events": Journalled,
        "ledger_entries": Entry,
        "usage_rollups": Usage,
        "usage_deltas": Usage,
        "readings": Reading,
    }
    rows: dict[str, list[Any]] = {
        name: [_made(kind, line) for line in read(folder / f"{name}.jsonl")] for name, kind in tables.items()
    }
    messages = {one.id: one for one in rows["messages"]}
    rows["events"] = unfold(rows["events"], rows["completions"], messages)
    nemesis = list(read(folder / "nemesis.jsonl"))
    return Evidence(
        asks=[_made(Asked, line) for line in client if line["what"] == "ask"],
        exchanges=_joined(Exchange, client, "send", "heard", "n"),
        calls=_joined(Call, provider, "call", "end", "call"),
        entries=rows.pop("ledger_entries"),
        rollups=rows.pop("usage_rollups"),
        deltas=rows.pop("usage_deltas"),
        faults=[_made(Fault, line) for line in nemesis if line["what"] == "fault"],
        exits=[_made(Exit, line) for line in nemesis if line["what"] == "exit"],
        alarms=[alarm for log in sorted(folder.glob("worker-*/service.log")) for alarm in _alarms(log)],
        **rows,
    )


def _alarms(log: Path) -> list[str]:
    """What a worker called an error, without its moment."""
    lines = log.read_text("utf-8", "replace").splitlines()
    return [f"{log.parent.name}: {found[1]}" for line in lines if (found := ALARM.match(line))]


def _joined(kind: type[T], lines: list[dict[str, Any]], begun: str, ended: str, name: str) -> list[T]:
    """Beginnings with their ends, which may be missing."""
    ends = {line[name]: {**line, "until": line["t"]} for line in lines if line["what"] == ended}
    begins = [line for line in lines if line["what"] == begun]
    return [_made(kind, {**ends.get(line[name], {}), **line}) for line in begins]


def _made(kind: type[T], line: Mapping[str, Any]) -> T:
    return kind(**{one.name: line[one.name] for one in fields(kind) if one.name in line})  # type: ignore[arg-type]  # a dataclass
