"""What is known of a turn from all sides, after whatever happened to its service or its database."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.evidence.client import Seen, ask
from tests.evidence.provider import MODEL, Asked, Provider
from tests.evidence.store import Row, Store

TABLES = {
    "completions": "conversation_id = {0}",
    "messages": "conversation_id = {0}",
    "conversations": "id = {0}",
    "attempts": "completion_id IN (SELECT id FROM completions WHERE conversation_id = {0})",
    "events": "completion_id IN (SELECT id FROM completions WHERE conversation_id = {0})",
    "ledger_entries": "conversation_id = {0}",
}
ORDER = {"attempts": "number", "events": "seq", "ledger_entries": "attempt", "messages": "depth"}
BEGUN = (("user", "Where were we?"), ("assistant", "Here."))


@dataclass(slots=True)
class Evidence:
    """One turn, `question`, that a client asked in a conversation which had `before` messages.

    `first` is what came of asking it, `again` of asking it once more with the same key, `calls` what the provider was
    asked for it, `replay` the stream read from its start, `record` and `history` what the API tells, `prompt` what the
    provider was told of the conversation when the next question was asked (None: it was not). `kills` is how often a
    service died, or gave up, when it may have recorded an attempt and not called yet.
    """

    question: str
    before: int
    kills: int
    first: Seen
    again: Seen
    calls: list[Asked]
    rows: dict[str, list[Row]]
    replay: bytes | None = None
    record: dict[str, Any] | None = None
    history: list[dict[str, Any]] = field(default_factory=list)
    prompt: list[dict[str, str]] | None = field(default_factory=list)
    damage: list[str] = field(default_factory=list)
    settled: bool = True


@dataclass(frozen=True, slots=True)
class Case:
    """A turn to be asked for, in a conversation that has `before` messages."""

    question: str
    conversation: int
    streamed: bool
    before: int = 0

    @property
    def path(self) -> str:
        return f"/conversations/{self.conversation}/completions"

    @property
    def claim(self) -> str:
        """The idempotency key that every request for it brings."""
        return self.question.replace(" ", "-")

    @property
    def body(self) -> dict[str, Any]:
        return {"model": MODEL, "content": self.question, "stream": self.streamed}


@dataclass(frozen=True, slots=True)
class Witnesses:
    """Who can be asked about a turn: the database, the provider, and whatever service listens on a port."""

    store: Store
    provider: Provider
    port: int
    key: str

    def new_case(self, words: str, *, streamed: bool) -> Case:
        """A question of its own for a conversation of its own, which has been begun already."""
        lines = [{"role": role, "content": content} for role, content in BEGUN]
        made = self.ask("POST", "/conversation", {"messages": lines})
        assert made.status == 201, made
        number = made.json()["id"]
        return Case(f"{number} {words}", number, streamed, before=len(BEGUN))

    def send(self, case: Case) -> Seen:
        """Ask for the turn: the same request each time, with the same idempotency key."""
        return self.ask("POST", case.path, case.body, {"Idempotency-Key": case.claim})

    def ask(self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None) -> Seen:
        return ask(self.port, method, path, body, key=self.key, headers=headers)

    def collect(self, case: Case, first: Seen, again: Seen, *, kills: int = 0, going_on: bool = True) -> Evidence:
        """What each of them says; with `going_on` also what the provider is told of the conversation from then on."""
        rows = rows_of(self.store, case.conversation)
        calls = self.provider.calls_of(case.question)
        made = Evidence(case.question, case.before, kills, first=first, again=again, calls=calls, rows=rows)
        made.damage = self.store.damage()
        if rows["completions"]:
            number = rows["completions"][0]["id"]
            made.replay = self.ask("GET", f"/completions/{number}/stream").body
            record = self.ask("GET", f"/completions/{number}")
            made.record = record.json() if record.status == 200 else None
        made.history = self.ask("GET", f"{case.path.removesuffix('completions')}messages?limit=100").json()["items"]
        following = Case(f"{case.conversation}: and then?", case.conversation, streamed=False)
        if going_on and self.send(following).status == 201:
            made.prompt = self.provider.calls_of(following.question)[0].messages
        elif not going_on:
            made.prompt = None
        return made


def rows_of(store: Store, conversation: int) -> dict[str, list[Row]]:
    """Every row of a conversation."""
    queries = [
        f"SELECT * FROM {table} WHERE {where.format(conversation)} ORDER BY {ORDER.get(table, 'id')}"
        for table, where in TABLES.items()
    ]
    rows = dict(zip(TABLES, store.read(*queries), strict=True))
    for row in rows["events"]:
        row["data"] = json.loads(row["data"])
    return rows
