"""Planted: what hangs, has gaps, is read twice and not the same, is out of order or not accounted."""

import json
from dataclasses import replace

from tests.torture.plants import acknowledged, answer, call_of, planted, swap
from torture.evidence import Evidence


@planted("stuck", "is still in_progress")
def a_turn_never_ends(evidence: Evidence) -> None:
    row, _ = acknowledged(evidence)
    swap(evidence.completions, row, replace(row, status="in_progress"))


@planted("stuck", "never ended")
def an_attempt_never_ends(evidence: Evidence) -> None:
    evidence.attempts[0] = replace(evidence.attempts[0], status="in_progress")


@planted("stuck", "does not end")
def a_stream_never_ends(evidence: Evidence) -> None:
    row, _ = acknowledged(evidence)
    reading = next(one for one in evidence.readings if one.completion == row.id)
    cut = reading.stream[: reading.stream.rindex("id: ")]
    swap(evidence.readings, reading, replace(reading, stream=cut))


@planted("gap", "where")
def an_event_is_missing_in_the_journal(evidence: Evidence) -> None:
    row, _ = acknowledged(evidence)
    first = next(one for one in evidence.events if one.completion_id == row.id and one.seq == 1)
    swap(evidence.events, first, replace(first, seq=2, last_seq=first.last_seq + 1))


@planted("gap", "has the numbers")
def an_event_is_missing_in_a_stream(evidence: Evidence) -> None:
    _, one = acknowledged(evidence)
    parts = one.text.split("\n\n")
    swap(evidence.exchanges, one, replace(one, text="\n\n".join(parts[:1] + parts[2:])))


@planted("diverged", "was another one in stream")
def a_stream_says_something_else(evidence: Evidence) -> None:
    _, one = acknowledged(evidence)
    swap(evidence.exchanges, one, replace(one, text=one.text.replace('{"token": "w', '{"token": "v', 1)))


@planted("diverged", "is another stream")
def a_resumed_stream_says_something_else(evidence: Evidence) -> None:
    reading = next(one for one in evidence.readings if '"token"' in one.tail)
    swap(evidence.readings, reading, replace(reading, tail=reading.tail.replace('"token": "', '"token": "x', 1)))


@planted("diverged", "is not what the events")
def a_message_differs_from_its_events(evidence: Evidence) -> None:
    message = answer(evidence)
    swap(evidence.messages, message, replace(message, content=message.content[:-1]))


@planted("diverged", "its message")
def a_message_has_another_status(evidence: Evidence) -> None:
    message = answer(evidence)
    swap(evidence.messages, message, replace(message, status="incomplete"))


@planted("diverged", "the record of completion")
def the_api_tells_another_usage(evidence: Evidence) -> None:
    reading = next(one for one in evidence.readings if one.record["usage"])
    usage = {**reading.record["usage"], "output_tokens": reading.record["usage"]["output_tokens"] + 1}
    swap(evidence.readings, reading, replace(reading, record={**reading.record, "usage": usage}))


@planted("diverged", "the reply of completion")
def a_reply_told_another_answer(evidence: Evidence) -> None:
    one = next(one for one in evidence.exchanges if one.status == 201 and one.completion and not one.streamed)
    reply = json.loads(one.text)
    swap(evidence.exchanges, one, replace(one, text=json.dumps({**reply, "content": reply["content"] + "!"})))


@planted("misordered", "got")
def a_prompt_is_out_of_order(evidence: Evidence) -> None:
    call = next(call for call in evidence.calls if len(call.prompt) >= 3)
    swap(evidence.calls, call, replace(call, prompt=[*call.prompt[1:], call.prompt[0]]))


@planted("misordered", "got")
def a_prompt_holds_another_talk(evidence: Evidence) -> None:
    call = call_of(evidence)
    other = next(one for one in evidence.calls if one.prompt != call.prompt)
    swap(evidence.calls, call, replace(call, prompt=[*other.prompt, *call.prompt]))


@planted("misordered", "asked")
def an_attempt_forgets_its_parameters(evidence: Evidence) -> None:
    call = call_of(evidence)
    swap(evidence.calls, call, replace(call, temperature=1.5))


@planted("unaccounted", "entries for")
def an_attempt_is_not_charged(evidence: Evidence) -> None:
    row, _ = acknowledged(evidence)
    swap(evidence.entries, next(one for one in evidence.entries if one.completion_id == row.id))


@planted("unaccounted", "the provider never told")
def a_token_too_many_is_charged(evidence: Evidence) -> None:
    entry = next(one for one in evidence.entries if one.provenance == "provider")
    swap(evidence.entries, entry, replace(entry, input_tokens=entry.input_tokens + 1))


@planted("unaccounted", "costs")
def a_nano_dollar_too_many_is_charged(evidence: Evidence) -> None:
    entry = next(one for one in evidence.entries if one.cost_nano)
    swap(evidence.entries, entry, replace(entry, cost_nano=(entry.cost_nano or 0) + 1))


@planted("unaccounted", "told ('provider'")
def a_usage_that_came_is_estimated(evidence: Evidence) -> None:
    row, _ = acknowledged(evidence)
    call = call_of(evidence)
    entry = next(one for one in evidence.entries if one.completion_id == row.id)
    count = {"input": 5, "read": 0, "written": 0, "output": 5, "reasoning": 0}
    swap(evidence.calls, call, replace(call, count=count))
    swap(evidence.entries, entry, replace(entry, provenance="estimated"))


@planted("unaccounted", "its entries say")
def the_record_and_the_ledger_differ(evidence: Evidence) -> None:
    row, _ = acknowledged(evidence)
    swap(evidence.completions, row, replace(row, output_tokens=(row.output_tokens or 0) + 1))


@planted("unaccounted", "attempts and has")
def an_attempt_has_no_row(evidence: Evidence) -> None:
    row, _ = acknowledged(evidence)
    swap(evidence.attempts, next(one for one in evidence.attempts if one.completion_id == row.id))


@planted("unaccounted", "the rollup")
def an_entry_is_not_rolled_up(evidence: Evidence) -> None:
    rows = evidence.rollups or evidence.deltas
    rows[0] = replace(rows[0], output_tokens=rows[0].output_tokens + 1)


@planted("unaccounted", "its entries [")
def the_record_costs_something_else(evidence: Evidence) -> None:
    row = next(row for row in evidence.completions if row.cost_nano)
    swap(evidence.completions, row, replace(row, cost_nano=(row.cost_nano or 0) + 1))
