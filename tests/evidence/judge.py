"""What must be true of a turn whatever was killed when; it knows the tables and the contract, not the service."""

import re
from collections.abc import Iterator
from typing import Any

from tests.evidence.provider import PRICES, usage
from tests.evidence.witnesses import Evidence

ENDED = ("completed", "incomplete", "failed", "cancelled")
TERMINAL = ("done", "error")
# Nano-dollars for a token.
PRICE_IN, PRICE_OUT = (1_000 * int(price) for price in PRICES)


def violations(evidence: Evidence) -> list[str]:
    """Every broken promise, in words; empty where all were kept."""
    found = [*_turns(evidence), *_conversation(evidence), *_next(evidence), *evidence.damage]
    if not evidence.settled:
        found.append("stuck: a turn never ended")
    if len(evidence.rows["completions"]) == 1:
        for check in (_end, _journal, _answer, _shown, _attempts, _ledger, _told, _again):
            found += check(evidence)
    return found


def _turns(evidence: Evidence) -> Iterator[str]:
    completions = evidence.rows["completions"]
    asked = [row for row in evidence.rows["messages"] if row["content"] == evidence.question]
    acknowledged = evidence.first.completion_id
    if acknowledged and acknowledged not in [row["id"] for row in completions]:
        yield f"lost: completion {acknowledged} was acknowledged"
    if len(completions) > 1:
        yield f"doubled: {len(completions)} completions"
    if len(asked) != len(completions):
        yield f"{len(asked)} questions for {len(completions)} completions"
    if not completions:
        yield "lost: there is no turn though it was asked for twice"
    if not completions and evidence.calls:
        yield "the provider was called for a turn that is not there"


def _conversation(evidence: Evidence) -> Iterator[str]:
    [row], messages = evidence.rows["conversations"], evidence.rows["messages"]
    expected = evidence.before + 2 * len(evidence.rows["completions"])
    if not len(messages) == row["message_count"] == expected:
        yield f"{len(messages)} messages, {row['message_count']} counted, {expected} expected"
    if [message["depth"] for message in messages] != list(range(len(messages))):
        yield f"depths {[message['depth'] for message in messages]}"
    parents = [None, *(message["id"] for message in messages)][: len(messages)]
    if [message["parent_id"] for message in messages] != parents:
        yield "the messages do not hang one below the other"
    if messages and row["active_leaf_id"] != messages[-1]["id"]:
        yield f"the leaf is {row['active_leaf_id']}, the last message {messages[-1]['id']}"
    if [(one["role"], one["content"]) for one in evidence.history] != [(m["role"], m["content"]) for m in messages]:
        yield "the API reads another history than the tables hold"


def _next(evidence: Evidence) -> Iterator[str]:
    """The next turn sends the provider exactly the history."""
    history = [{"role": one["role"], "content": one["content"]} for one in evidence.history if one["content"]]
    if evidence.prompt is not None and evidence.prompt[:-1] != history:
        yield f"the next prompt was {evidence.prompt}, the history {history}"


def _end(evidence: Evidence) -> Iterator[str]:
    [turn] = evidence.rows["completions"]
    if turn["status"] not in ENDED or turn["finished_at"] is None:
        yield f"stuck: the completion is {turn['status']}"
    if turn["status"] == "failed":
        yield f"failed: {turn['error_code']} {turn['error_detail']}"
    for table in ("messages", "attempts"):
        for row in evidence.rows[table]:
            if row["status"] not in ENDED:
                yield f"stuck: {row['status']} in {table}"
    if evidence.first.whole and evidence.first.status in (200, 201) and turn["status"] != "completed":
        yield f"the client saw the end, the completion is {turn['status']}"


def _journal(evidence: Evidence) -> Iterator[str]:
    expected = 1
    for row in evidence.rows["events"]:
        if row["seq"] != expected or row["last_seq"] - row["seq"] + 1 != len(row["data"]):
            yield f"gap: events {row['seq']} to {row['last_seq']} hold {len(row['data'])}, {expected} was next"
        expected = row["last_seq"] + 1
    kinds = [kind for kind, _ in _events(evidence)]
    if [kind for kind in kinds if kind in TERMINAL] != kinds[-1:]:
        yield f"the journal ends {kinds[-3:]}"


def _answer(evidence: Evidence) -> Iterator[str]:
    [turn] = evidence.rows["completions"]
    content = evidence.rows["messages"][-1]["content"]
    journalled = "".join(data for kind, data in _events(evidence) if kind == "text")
    if content != journalled:
        yield f"the answer is {content!r}, the journal has {journalled!r}"
    said = ["".join(call.said) for call in evidence.calls]
    if turn["status"] == "completed" and content not in said:
        yield f"unexpected: {content!r} was never said"
    if turn["status"] == "incomplete" and not (content and any(one.startswith(content) for one in said)):
        yield f"unexpected: {content!r} begins nothing that was said"


def _shown(evidence: Evidence) -> Iterator[str]:
    """Byte for byte: what the client had is how the resumed stream begins, or is the whole of it."""
    [turn] = evidence.rows["completions"]
    replay, first = evidence.replay or b"", evidence.first
    shown = _without_comments(first.body)
    ids = [line for line in replay.split(b"\n") if line.startswith(b"id: ")]
    if ids != [b"id: %d:%d" % (turn["id"], seq) for seq in range(len(_events(evidence)) + 1)]:
        yield f"gap: the replay has {ids}"
    if first.status == 200 and not replay.startswith(shown):
        yield f"the client saw {shown!r}, the replay is {replay!r}"
    if first.status == 200 and first.whole and replay != shown:
        yield f"the client saw the end, the replay goes on: {replay!r}"
    if first.status == 201 and first.whole and first.json()["content"] != evidence.rows["messages"][-1]["content"]:
        yield "the client was told another answer than the one that is stored"


def _attempts(evidence: Evidence) -> Iterator[str]:
    """An attempt is recorded before its call, so each kill may leave one that never called."""
    [turn], attempts, calls = evidence.rows["completions"], evidence.rows["attempts"], len(evidence.calls)
    numbers = [row["number"] for row in attempts]
    if numbers != list(range(1, turn["attempt_count"] + 1)):
        yield f"attempts {numbers}, {turn['attempt_count']} counted"
    if not calls <= len(attempts) <= calls + evidence.kills:
        yield f"{len(attempts)} attempts, {calls} calls to the provider, {evidence.kills} kills"


def _ledger(evidence: Evidence) -> Iterator[str]:
    [turn], entries = evidence.rows["completions"], evidence.rows["ledger_entries"]
    accounted = [(row["attempt"], row["kind"]) for row in entries]
    if accounted != [(row["number"], "charge") for row in evidence.rows["attempts"]]:
        yield f"unaccounted: {len(evidence.rows['attempts'])} attempts, entries {accounted}"
        return
    last = entries[-1]
    for name in ("input_tokens", "output_tokens", "cache_read_tokens", "cost_nano"):
        if last[name] != turn[name]:
            yield f"the last entry has {name} {last[name]}, the completion {turn[name]}"
    if turn["status"] == "completed":
        told = usage(len(evidence.calls[-1].said))
        used = (told["prompt_tokens"], told["completion_tokens"])
        if (last["input_tokens"], last["output_tokens"], last["provenance"]) != (*used, "provider"):
            yield f"the provider counted {used}, the ledger says {last}"
    elif last["provenance"] != "estimated":
        yield f"nobody counted, the ledger says {last['provenance']}"
    for row in entries:
        if row["cost_nano"] != row["input_tokens"] * PRICE_IN + row["output_tokens"] * PRICE_OUT:
            yield f"{row['cost_nano']} nano-dollars for {row['input_tokens']} and {row['output_tokens']} tokens"


def _told(evidence: Evidence) -> Iterator[str]:
    """The API's record is the tables'."""
    [turn], record = evidence.rows["completions"], evidence.record
    if record is None:
        yield "the completion cannot be read"
        return
    stored: dict[str, Any] = {
        "status": turn["status"],
        "content": evidence.rows["messages"][-1]["content"],
        "attempts": [row["number"] for row in evidence.rows["attempts"]],
        "entries": sorted(row["id"] for row in evidence.rows["ledger_entries"]),
    }
    told = {
        "status": record["status"],
        "content": record["content"],
        "attempts": [one["number"] for one in record["attempts"]],
        "entries": sorted(one["id"] for one in record["entries"]),
    }
    if told != stored:
        yield f"the API tells {told}, the tables hold {stored}"


def _again(evidence: Evidence) -> Iterator[str]:
    """The same request with the same key gives the same turn, to its end."""
    again = evidence.again
    [turn] = evidence.rows["completions"]
    if not again.whole or again.status not in (200, 201, 503):
        yield f"asked again: {again}"
    elif evidence.first.completion_id and again.headers.get("idempotency-replayed") != "true":
        yield "asked again: it is not said that this was answered before"
    elif again.status == 503 and (turn["status"] != "incomplete" or again.json()["completion_id"] != turn["id"]):
        yield f"asked again: {again}, the completion {turn['id']} is {turn['status']}"
    elif again.status == 200 and _without_comments(again.body) != evidence.replay:
        yield f"asked again: {again.body!r}, the replay is {evidence.replay!r}"
    elif again.status == 201 and again.json()["content"] != evidence.rows["messages"][-1]["content"]:
        yield f"asked again: {again.body!r}"
    if again.completion_id not in (None, turn["id"]):
        yield f"asked again: completion {again.completion_id}, not {turn['id']}"


def _without_comments(stream: bytes) -> bytes:
    """What a stream says: a comment, even one cut short, only keeps proxies awake."""
    return re.sub(rb"(?:(?<=\n\n)|^):[^\n]*(?:\n\n|\n?$)", b"", stream)


def _events(evidence: Evidence) -> list[tuple[str, Any]]:
    return [(kind, data) for row in evidence.rows["events"] for kind, data in row["data"]]
