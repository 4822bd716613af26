"""Planted: turns that are lost, done twice, or that nobody asked for."""

import json
from dataclasses import replace

from tests.torture.plants import acknowledged, answer, call_of, planted, question, swap
from torture.evidence import Evidence, Exit


@planted("lost", "was acknowledged as completion")
def a_turn_vanishes(evidence: Evidence) -> None:
    swap(evidence.completions, acknowledged(evidence)[0])


@planted("lost", "the question of turn")
def a_question_vanishes(evidence: Evidence) -> None:
    alone = question(evidence)
    swap(evidence.messages, alone, replace(alone, content="What is the matter?"))


@planted("lost", "the answer of completion")
def an_answer_vanishes(evidence: Evidence) -> None:
    leaf = next(
        m for m in evidence.messages if m.completion_id and m.id not in {n.parent_id for n in evidence.messages}
    )
    swap(evidence.messages, leaf)


@planted("lost", "was shown")
def an_event_is_shown_that_is_not_kept(evidence: Evidence) -> None:
    row, one = acknowledged(evidence)
    more = f'id: {row.id}:{one.text.count("id: ")}\ndata: {{"token": "and more"}}\n\n'
    swap(evidence.exchanges, one, replace(one, text=one.text + more))


@planted("lost", "cannot be read back")
def a_record_cannot_be_read(evidence: Evidence) -> None:
    evidence.readings[0] = replace(evidence.readings[0], status=404)


@planted("duplicated", "is the completions")
def a_turn_is_done_twice(evidence: Evidence) -> None:
    evidence.completions.append(replace(acknowledged(evidence)[0], id=10**9))


@planted("duplicated", "the question of turn")
def a_question_is_stored_twice(evidence: Evidence) -> None:
    evidence.messages.append(replace(question(evidence), id=10**9))


@planted("duplicated", "is in 2 messages")
def an_answer_is_stored_twice(evidence: Evidence) -> None:
    evidence.messages.append(replace(answer(evidence), id=10**9, completion_id=None))


@planted("duplicated", "has the ends")
def a_turn_ends_twice(evidence: Evidence) -> None:
    row, _ = acknowledged(evidence)
    last = max((one for one in evidence.events if one.completion_id == row.id), key=lambda one: one.last_seq)
    seq = last.last_seq + 1
    evidence.events.append(replace(last, seq=seq, last_seq=seq, data='[["done", {"status": "completed"}]]'))


@planted("duplicated", "is charged for the attempts")
def an_attempt_is_charged_twice(evidence: Evidence) -> None:
    evidence.entries.append(replace(evidence.entries[0], id=10**9))


@planted("duplicated", "goes on after its end")
def a_stream_goes_on_after_its_end(evidence: Evidence) -> None:
    _, one = acknowledged(evidence)
    swap(evidence.exchanges, one, replace(one, text=one.text + one.text))


@planted("unexpected", "was asked for by nobody")
def a_turn_appears(evidence: Evidence) -> None:
    evidence.completions.append(replace(acknowledged(evidence)[0], id=10**9, max_tokens=7))


@planted("unexpected", "was refused and yet is")
def a_refused_turn_is_there(evidence: Evidence) -> None:
    row, _ = acknowledged(evidence)
    for one in [one for one in evidence.exchanges if one.tag == row.max_tokens]:
        swap(evidence.exchanges, one, replace(one, status=409, ended="whole", completion=None, streamed=False))


@planted("unexpected", "asked by")
def a_turn_is_somebody_else_s(evidence: Evidence) -> None:
    row, _ = acknowledged(evidence)
    swap(evidence.completions, row, replace(row, user_id=row.user_id + 1))


@planted("unexpected", "says what nobody asked")
def a_message_appears(evidence: Evidence) -> None:
    evidence.messages.append(replace(question(evidence), id=10**9, content="Who is there?"))


@planted("unexpected", "the provider's calls are")
def the_provider_is_called_without_an_attempt(evidence: Evidence) -> None:
    evidence.calls.append(replace(call_of(evidence), call=10**9))


@planted("unexpected", "says what no call said")
def an_answer_is_made_up(evidence: Evidence) -> None:
    message, (row, _) = answer(evidence), acknowledged(evidence)
    swap(evidence.messages, message, replace(message, content="42", reasoning=None))
    for part in [one for one in evidence.events if one.completion_id == row.id]:
        ends = [event for event in json.loads(part.data) if event[0] not in ("text", "reasoning")]
        said = [["text", "42"]] if part.seq == 1 else []
        swap(evidence.events, part, replace(part, data=json.dumps(said + ends)))


@planted("unexpected", "was not to be stored")
def events_are_kept_that_were_not_to_be(evidence: Evidence) -> None:
    row = next(row for row in evidence.completions if not row.stored)
    evidence.events.append(replace(evidence.events[0], completion_id=row.id))


@planted("unexpected", "was answered with 500")
def a_request_breaks(evidence: Evidence) -> None:
    evidence.exchanges[0] = replace(evidence.exchanges[0], status=500)


@planted("unexpected", "ended with 1")
def a_worker_ends_badly(evidence: Evidence) -> None:
    evidence.exits.append(Exit("worker-1", 1))


@planted("unexpected", "in the log of")
def a_worker_says_that_it_erred(evidence: Evidence) -> None:
    evidence.alarms.append("worker-1: service.turns.engine: a turn broke")
