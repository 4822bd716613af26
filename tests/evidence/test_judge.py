"""The judge itself: a good turn has no violation, and each planted one is found."""

import json
from collections.abc import Callable
from copy import deepcopy
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.evidence.client import Seen, read
from tests.evidence.judge import violations
from tests.evidence.provider import WORDS, Asked, usage
from tests.evidence.witnesses import Evidence

QUESTION = "And now?"
SAID = [f"word{number} " for number in range(WORDS)]
ANSWER = "".join(SAID)
USED = {"input_tokens": 24, "output_tokens": 12, "cache_read_tokens": 0, "cost_nano": 48_000}
TALK = [("user", "Hello."), ("assistant", "Hi."), ("user", QUESTION), ("assistant", ANSWER)]
NAMED = {"everturn-completion-id": "7"}


def event(seq: int, data: str, name: str = "") -> bytes:
    return b"id: 7:%d\n" % seq + (f"event: {name}\n" if name else "").encode() + f"data: {data}\n\n".encode()


STREAM = b"".join(
    [
        event(0, '{"completion_id":7}', "completion"),
        *(event(1 + number, json.dumps({"token": word})) for number, word in enumerate(SAID)),
        event(WORDS + 1, "{}", "usage"),
        event(WORDS + 2, "[DONE]"),
    ]
)


@pytest.fixture
def good() -> Evidence:
    """A streamed turn whose client had all of it before the kill."""
    now = datetime.now(UTC)
    ends: list[list[Any]] = [["usage", {}], ["done", {}]]
    messages: list[dict[str, Any]] = [
        {"id": at + 1, "parent_id": at or None, "depth": at, "role": role, "content": content, "status": "completed"}
        for at, (role, content) in enumerate(TALK)
    ]
    rows: dict[str, list[dict[str, Any]]] = {
        "conversations": [{"id": 1, "message_count": 4, "active_leaf_id": 4}],
        "messages": messages,
        "completions": [{"id": 7, "status": "completed", "finished_at": now, "attempt_count": 1, **USED}],
        "attempts": [{"number": 1, "status": "completed"}],
        "events": [
            {"seq": 1, "last_seq": 2, "data": [["text", SAID[0]], ["text", SAID[1]]]},
            {"seq": 3, "last_seq": WORDS + 2, "data": [*(["text", word] for word in SAID[2:]), *ends]},
        ],
        "ledger_entries": [{"id": 3, "attempt": 1, "kind": "charge", "provenance": "provider", **USED}],
    }
    return Evidence(
        QUESTION,
        before=2,
        kills=1,
        first=Seen(200, NAMED, STREAM, whole=True),
        again=Seen(200, {**NAMED, "idempotency-replayed": "true"}, STREAM, whole=True),
        calls=[Asked([{"role": "user", "content": QUESTION}], said=list(SAID))],
        rows=rows,
        replay=STREAM,
        record={"status": "completed", "content": ANSWER, "attempts": [{"number": 1}], "entries": [{"id": 3}]},
        history=deepcopy(messages),
        prompt=[*({"role": role, "content": content} for role, content in TALK), {"role": "user", "content": "?"}],
    )


def test_good_turn_has_no_violation(good: Evidence) -> None:
    assert usage(WORDS)["prompt_tokens"] == USED["input_tokens"]
    assert violations(good) == []


def test_comments_and_a_cut_are_no_violation(good: Evidence) -> None:
    good.first = Seen(200, NAMED, STREAM.replace(b"id: 7:2", b": still here\n\nid: 7:2")[:-30])
    assert violations(good) == []


Plant = Callable[[Evidence], object]


def lose_the_turn(one: Evidence) -> None:
    for table in ("completions", "attempts", "events", "ledger_entries"):
        one.rows[table].clear()


FAILED = {"status": "failed", "error_code": "x", "error_detail": "y"}
UNCALLED = {"number": 2, "status": "failed"}
PLANTED: dict[str, tuple[Plant, str]] = {
    "the turn is gone": (lose_the_turn, "lost: completion 7"),
    "a second turn": (lambda e: e.rows["completions"].append({**e.rows["completions"][0], "id": 8}), "doubled"),
    "the question twice": (lambda e: e.rows["messages"].append(e.rows["messages"][2]), "2 questions"),
    "a turn that never ends": (lambda e: e.rows["completions"][0].update(status="in_progress"), "stuck"),
    "a message that never ends": (lambda e: e.rows["messages"][3].update(status="in_progress"), "stuck"),
    "an attempt that never ends": (lambda e: e.rows["attempts"][0].update(status="in_progress"), "stuck"),
    "a turn that still runs": (lambda e: setattr(e, "settled", False), "stuck"),
    "an event missing": (lambda e: e.rows["events"][1]["data"].pop(0), "gap"),
    "a row of events missing": (lambda e: e.rows["events"].pop(0), "gap"),
    "two ends": (lambda e: e.rows["events"][0]["data"].__setitem__(0, ["error", {}]), "the journal ends"),
    "no end": (lambda e: e.rows["events"][1]["data"].__setitem__(-1, ["text", ""]), "the journal ends"),
    "another answer": (lambda e: e.rows["messages"][3].update(content=ANSWER[:-1]), "the journal has"),
    "words nobody said": (lambda e: e.calls[0].said.__setitem__(0, "other "), "never said"),
    "bytes not replayed": (lambda e: setattr(e.first, "body", STREAM.replace(b"word1", b"x")), "the client saw"),
    "a replay that ends later": (lambda e: setattr(e.first, "body", STREAM[:-20]), "the replay goes on"),
    "a replay with a hole": (lambda e: setattr(e, "replay", STREAM.replace(b"id: 7:2\n", b"")), "gap: the replay"),
    "an attempt uncounted": (lambda e: e.rows["completions"][0].update(attempt_count=2), "counted"),
    "a call unrecorded": (lambda e: e.calls.append(deepcopy(e.calls[0])), "2 calls to the provider"),
    "attempts without calls": (lambda e: e.rows["attempts"].extend([dict(UNCALLED), dict(UNCALLED)]), "3 attempts"),
    "an attempt unaccounted": (lambda e: e.rows["ledger_entries"].clear(), "unaccounted"),
    "an attempt charged twice": (lambda e: e.rows["ledger_entries"].append(e.rows["ledger_entries"][0]), "unaccounted"),
    "another bill": (lambda e: e.rows["ledger_entries"][0].update(output_tokens=13), "the ledger says"),
    "another cost": (lambda e: e.rows["ledger_entries"][0].update(cost_nano=1), "nano-dollars"),
    "an API that tells something else": (lambda e: e.record and e.record.update(content="x"), "the API tells"),
    "another history": (lambda e: e.history.pop(0), "another history"),
    "another prompt": (lambda e: e.prompt and e.prompt.pop(0), "the next prompt"),
    "a message uncounted": (lambda e: e.rows["conversations"][0].update(message_count=3), "3 counted"),
    "a leaf elsewhere": (lambda e: e.rows["conversations"][0].update(active_leaf_id=2), "the leaf"),
    "a message cut loose": (lambda e: e.rows["messages"][3].update(parent_id=1), "hang one below"),
    "a retry with another turn": (lambda e: e.again.headers.update({"everturn-completion-id": "8"}), "completion 8"),
    "a retry with other bytes": (lambda e: setattr(e.again, "body", STREAM[:-1]), "asked again"),
    "a retry that fails": (lambda e: setattr(e.again, "status", 500), "asked again"),
    "a retry not marked": (lambda e: e.again.headers.pop("idempotency-replayed"), "answered before"),
    "a damaged file": (lambda e: e.damage.append("row 3 missing from index"), "row 3"),
    "a failure": (lambda e: e.rows["completions"][0].update(FAILED), "failed: x y"),
}  # fmt: skip


@pytest.mark.parametrize("name", PLANTED)
def test_planted_violation_is_found(good: Evidence, name: str) -> None:
    plant, words = PLANTED[name]
    plant(good)
    assert any(words in found for found in violations(good)), violations(good)


def test_answers_are_read_as_far_as_they_came() -> None:
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\neverturn-completion-id: 7\r\n\r\n"
    body = b"5\r\nfirst\r\n6\r\nsecond\r\n0\r\n\r\n"
    whole = read(head + body)
    assert (whole.status, whole.body, whole.whole, whole.completion_id) == (200, b"firstsecond", True, 7)
    expected = {0: b"", 3: b"", 5: b"fi", 8: b"first", 10: b"first", 16: b"firstsec", 19: b"firstsecond"}
    for length, came in expected.items():
        assert (read(head + body[:length]).body, read(head + body[:length]).whole) == (came, False)
    assert read(head[:40]) == Seen()
    cut = read(b"HTTP/1.1 201 Created\r\ncontent-length: 20\r\n\r\n{")
    assert (cut.status, cut.whole, cut.completion_id) == (201, False, None)
