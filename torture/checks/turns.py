"""Every turn once: what was acknowledged is there, nothing is there twice, and nothing that nobody asked for."""

import re
from collections import Counter
from collections.abc import Iterator

from torture.evidence import Asked, Evidence, Exchange, Finding
from torture.rows import Completion, Message

REFUSED = range(400, 500)
CALL = re.compile(r"^w(\d+)\.0")


def check(evidence: Evidence) -> Iterator[Finding]:
    """lost, duplicated, unexpected."""
    for ask in evidence.asks:
        yield from _turn(evidence, ask)
    for row in evidence.completions:
        if row.max_tokens not in evidence.asked:
            yield Finding("unexpected", f"completion {row.id} was asked for by nobody")
        yield from _answer(evidence, row)
    for one in evidence.exchanges:
        if one.status == 500:
            yield Finding("unexpected", f"exchange {one.n} ({one.method} {one.path}) was answered with 500")
    yield from _questions(evidence)
    yield from _calls(evidence)
    yield from _texts(evidence)


def acknowledged(exchanges: list[Exchange]) -> set[int]:
    """The completions that the service named in answer to a turn's sends."""
    return {one.completion for one in exchanges if one.completion is not None and one.method == "POST"}


def refused(exchanges: list[Exchange]) -> bool:
    """Whether every send was answered, and each with a refusal: then nothing may have been accepted."""
    return all(one.status in REFUSED and one.ended == "whole" and one.completion is None for one in exchanges)


def outcome(evidence: Evidence, ask: Asked) -> str:
    """What became of a turn, in Jepsen's words: ok, recovered (found, though its fate was unknown), failed."""
    there = bool(evidence.by_tag[ask.tag])
    if acknowledged(evidence.exchanges_of[ask.tag]):
        return "ok" if there else "lost"
    return "recovered" if there else "failed"


def _turn(evidence: Evidence, ask: Asked) -> Iterator[Finding]:
    rows, sends = evidence.by_tag[ask.tag], evidence.exchanges_of[ask.tag]
    known, there = acknowledged(sends), {row.id for row in rows}
    if len(rows) > 1 or len(known) > 1:
        yield Finding("duplicated", f"turn {ask.tag} is the completions {sorted(there | known)}")
    for completion in known - there:
        yield Finding("lost", f"turn {ask.tag} was acknowledged as completion {completion}, which is not there")
    if rows and not known and refused(sends):
        yield Finding("unexpected", f"turn {ask.tag} was refused and yet is completion {rows[0].id}")
    for row in rows:
        if row.user_id != ask.person:
            yield Finding("unexpected", f"turn {ask.tag} is of user {row.user_id}, asked by {ask.person}")


def _answer(evidence: Evidence, row: Completion) -> Iterator[Finding]:
    """A stored turn has one message for its answer, in its conversation; another has none."""
    if not row.stored:
        return
    message = evidence.message.get(row.message_id or 0)
    if message is None:
        yield Finding("lost", f"the answer of completion {row.id} is not there")
    elif (message.completion_id, message.conversation_id) != (row.id, row.conversation_id):
        yield Finding("unexpected", f"message {message.id} is not the answer of completion {row.id} alone")


def _questions(evidence: Evidence) -> Iterator[Finding]:
    """Each question is stored once if its turn is there, and never otherwise."""
    asked = {ask.question: ask for ask in evidence.asks if ask.question}
    lines = [one for one in evidence.messages if one.role == "user"]
    times = Counter(message.content for message in lines if not _is_copy(evidence, message, asked))
    for message in lines:
        if message.content not in asked:
            yield Finding("unexpected", f"message {message.id} says what nobody asked: {message.content[:50]!r}")
    for question, ask in asked.items():
        want = sum(1 for row in evidence.by_tag[ask.tag] if row.stored)
        if times[question] < want:
            yield Finding("lost", f"the question of turn {ask.tag} is not there")
        elif times[question] > max(want, 1):
            yield Finding("duplicated", f"the question of turn {ask.tag} is there {times[question]} times")
        elif times[question] > want:
            yield Finding("unexpected", f"the question of turn {ask.tag} is there without its turn")


def _is_copy(evidence: Evidence, message: Message, asked: dict[str, Asked]) -> bool:
    """In a fork a question is a copy, unless it was asked there."""
    ask = asked.get(message.content)
    return message.conversation_id in evidence.copies and (ask is None or ask.conversation != message.conversation_id)


def _calls(evidence: Evidence) -> Iterator[Finding]:
    """The provider saw no call that is not an attempt: each is written down before it is made."""
    for tag, calls in evidence.calls_of.items():
        attempts = sum(len(evidence.attempts_of[row.id]) for row in evidence.by_tag.get(tag, ()))
        if len(calls) > attempts:
            numbers = [call.call for call in calls]
            yield Finding("unexpected", f"turn {tag} has {attempts} attempts, and the provider's calls are {numbers}")


def _texts(evidence: Evidence) -> Iterator[Finding]:
    """What was said in one call is the answer of one message."""
    answers = {row.message_id for row in evidence.completions}
    said = Counter(
        found[1]
        for message in evidence.messages
        if message.role == "assistant"
        if message.conversation_id not in evidence.copies or message.id in answers
        if (found := CALL.match(message.content))
    )
    for call, times in said.items():
        if times > 1:
            yield Finding("duplicated", f"what call {call} said is in {times} messages")
