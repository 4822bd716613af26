"""Streams of both wires, cut and broken in every way."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from service.domain.meters import Meters
from service.providers import sse
from service.providers.base import Delta, Ending, FailureKind, Piece, ProviderFailure
from tests.providers.raw import (
    CHAT,
    DONE,
    MESSAGE,
    USAGE,
    MakeAdapter,
    RawServer,
    Script,
    answer,
    chat_chunk,
    chunked,
    collect,
    event,
    make_call,
    stalled,
)

METERS = Meters(60, 30, 10, 20, 5)


async def failure_of(batches: AsyncIterator[list[Piece]]) -> tuple[str, ProviderFailure]:
    text = ""
    try:
        async for batch in batches:
            text += "".join(piece.text for piece in batch if isinstance(piece, Delta))
    except ProviderFailure as failure:
        return text, failure
    pytest.fail("nothing failed")


async def test_openai_stream_is_the_same_wherever_it_is_cut(raw: RawServer, make_openai: MakeAdapter) -> None:
    adapter = make_openai()
    whole = b"".join(CHAT)
    for at in range(1, len(whole)):
        raw.play(chunked(whole[:at], whole[at:]))
        text, _, ending = await collect(adapter, make_call())
        assert (text, ending) == ("Grüße, 🌍!", Ending("stop", METERS, "chatcmpl-1", "m")), at
    assert raw.connections <= 3  # the pool works: a connection is back once HTTP's own end was read


async def test_anthropic_stream_is_the_same_wherever_it_is_cut(raw: RawServer, make_anthropic: MakeAdapter) -> None:
    adapter = make_anthropic()
    whole = b"".join(MESSAGE)
    expected = Ending("stop", Meters(60, 30, 10, 20), "msg_1", "m")
    for at in range(1, len(whole), 3):
        raw.play(chunked(whole[:at], whole[at:]))
        assert await collect(adapter, make_call()) == ("Grüße, 🌍!", "Hm.", expected), at
    assert raw.connections <= 3  # the pool works: a connection is back once HTTP's own end was read


async def test_single_bytes_with_crlf_comments_and_many_data_lines(raw: RawServer, make_openai: MakeAdapter) -> None:
    pretty = json.dumps(json.loads(CHAT[1][6:]), indent=1).encode()
    odd = b": comment\n\nid: 7\nretry: 1\nevent: x\ndata:" + pretty.replace(b"\n", b"\ndata:") + b"\n\n"
    whole = (odd + CHAT[2] + CHAT[3] + DONE).replace(b"\n", b"\r\n")
    raw.play(chunked(*(whole[i : i + 1] for i in range(len(whole)))))
    text, _, ending = await collect(make_openai(), make_call())
    assert text == "Grüße, 🌍!"
    assert ending.meters is None


async def test_one_batch_for_each_read(raw: RawServer, make_openai: MakeAdapter) -> None:
    raw.play(chunked(b"".join(CHAT)))
    batches = [batch async for batch in make_openai().run(make_call())]
    assert [len(batch) for batch in batches] == [4]  # three deltas or endings, and a count


CASES: list[tuple[Script, FailureKind, str]] = [
    (chunked(*CHAT[:3]), "truncated", "Grüße, 🌍!"),
    (chunked(*CHAT[:2], CHAT[2][:40]), "truncated", "Grüße, "),
    (chunked(*CHAT[:2], DONE), "truncated", "Grüße, "),
    (chunked(), "truncated", ""),
    (chunked(*CHAT[:2], cut=True), "unreachable", "Grüße, "),
    (chunked(CHAT[1] + b"data: {oops\n\n" + CHAT[2]), "malformed", "Grüße, "),
    (chunked(CHAT[1], b"data: [1]\n\n"), "malformed", "Grüße, "),
    (chunked(CHAT[1], b'data: {"choices":[{"delta":3}]}\n\n'), "malformed", "Grüße, "),
    (chunked(CHAT[1], b'data: {"error":{"message":"x","type":"server_error"}}\n\n'), "server_error", "Grüße, "),
    (chunked(CHAT[1], b'data: {"error":{"message":"x","code":429}}\n\n'), "rate_limited", "Grüße, "),
    (
        chunked(CHAT[1], b'event: error\ndata: {"error":{"message":"x","type":"overloaded_error"}}\n\n'),
        "overloaded",
        "Grüße, ",
    ),
    (answer({"choices": []}), "malformed", ""),
    (answer(b"<html>", content_type="text/html"), "malformed", ""),
    (answer({"error": {"message": "x", "code": "rate_limit_exceeded"}}), "rate_limited", ""),
    (answer(b"", status=302, headers="Location: /elsewhere\r\n"), "misconfigured", ""),
]


@pytest.mark.parametrize("case", range(len(CASES)))
async def test_broken_openai_stream_keeps_what_came_and_says_why(
    case: int, raw: RawServer, make_openai: MakeAdapter
) -> None:
    script, kind, expected = CASES[case]
    raw.play(script)
    text, failure = await failure_of(make_openai().run(make_call()))
    assert (text, failure.kind) == (expected, kind)
    assert len(raw.requests) == 1


ANTHROPIC_CASES: list[tuple[Script, FailureKind]] = [
    (chunked(*MESSAGE[:8]), "truncated"),
    (chunked(*MESSAGE[:8], cut=True), "unreachable"),
    (chunked(*MESSAGE[:8], b"event: x\ndata: {oops\n\n"), "malformed"),
    (chunked(*MESSAGE[:8], event("content_block_delta", delta=1)), "malformed"),
    (chunked(*MESSAGE[:8], event("error", error={"type": "overloaded_error", "message": "x"})), "overloaded"),
    (chunked(*MESSAGE[:8], event("error", error={"type": "api_error", "message": "x"})), "server_error"),
]


@pytest.mark.parametrize("case", range(len(ANTHROPIC_CASES)))
async def test_broken_anthropic_stream_keeps_what_came_and_says_why(
    case: int, raw: RawServer, make_anthropic: MakeAdapter
) -> None:
    script, kind = ANTHROPIC_CASES[case]
    raw.play(script)
    text, failure = await failure_of(make_anthropic().run(make_call()))
    assert (text, failure.kind) == ("Hm.Grüße, ", kind)


async def test_stream_with_a_finish_reason_needs_nothing_more(
    raw: RawServer, make_openai: MakeAdapter, make_anthropic: MakeAdapter
) -> None:
    raw.play(chunked(*CHAT[:4]))
    _, _, ending = await collect(make_openai(), make_call())
    assert ending == Ending("stop", None, "chatcmpl-1", "m")
    raw.play(chunked(*MESSAGE[:11]))
    _, _, ending = await collect(make_anthropic(), make_call())
    assert ending.finish_reason == "stop"


async def test_event_without_end_is_bounded(
    raw: RawServer, make_openai: MakeAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sse, "MAX_EVENT_BYTES", 100_000)
    raw.play(chunked(*[b"data: " + b"x" * 65_000] * 20))
    _, failure = await failure_of(make_openai().run(make_call()))
    assert failure.kind == "malformed"


@pytest.mark.parametrize(
    ("timeouts", "script"),
    [
        ({"first_byte": 0.1}, stalled()),
        ({"idle": 0.1}, stalled(CHAT[1])),
        ({"total": 0.1}, stalled(CHAT[1])),
        ({"idle": 0.1}, stalled(CHAT[1], b"data: {")),
    ],
)
async def test_silence_is_a_timeout_and_closes_the_connection(
    timeouts: dict[str, float], script: Script, raw: RawServer, make_openai: MakeAdapter
) -> None:
    raw.play(script)
    _, failure = await failure_of(make_openai(**timeouts).run(make_call()))
    assert failure.kind == "timeout"
    async with asyncio.timeout(5):
        await raw.closed.wait()


async def test_time_between_two_reads_is_not_idle_time(raw: RawServer, make_openai: MakeAdapter) -> None:
    raw.play(chunked(*CHAT))
    async with aclosing(make_openai(idle=0.05, first_byte=0.05).run(make_call())) as batches:
        async for _ in batches:
            await asyncio.sleep(0.12)


async def test_reply_in_one_piece_has_the_total_timeout_only(raw: RawServer, make_openai: MakeAdapter) -> None:
    raw.play(stalled(b"{", content_type="application/json"))
    _, failure = await failure_of(make_openai(total=0.1).run(make_call(stream=False)))
    assert failure.kind == "timeout"


async def test_closing_the_iterator_closes_the_connection(raw: RawServer, make_openai: MakeAdapter) -> None:
    raw.play(stalled(CHAT[1]))
    batches = make_openai().run(make_call())
    assert await anext(batches)
    assert not raw.closed.is_set()
    await batches.aclose()
    async with asyncio.timeout(5):
        await raw.closed.wait()


async def test_cancelling_the_task_closes_the_connection(raw: RawServer, make_openai: MakeAdapter) -> None:
    raw.play(stalled(CHAT[1]))
    began = asyncio.Event()

    async def follow() -> None:
        async for _ in make_openai().run(make_call()):
            began.set()

    task = asyncio.create_task(follow())
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(5):
        await raw.closed.wait()


async def test_nobody_listening_is_unreachable(raw: RawServer, make_openai: MakeAdapter) -> None:
    _, failure = await failure_of(make_openai("http://127.0.0.1:9").run(make_call()))
    assert failure.kind == "unreachable"
    assert not raw.requests


async def test_text_is_cleaned_and_split_surrogates_survive(raw: RawServer, make_openai: MakeAdapter) -> None:
    parts = [rb"a\u0000b", rb"\ud83d", rb"\ude00", rb"\ud800x", rb"\udc00", b"\xff", rb"\ud83d"]
    chunks = [b'data: {"choices":[{"delta":{"content":"' + part + b'"}}]}\n\n' for part in parts]
    raw.play(chunked(*chunks, chat_chunk({}, "length"), DONE))
    text, _, ending = await collect(make_openai(), make_call())
    assert text == "a\ufffdb😀\ufffdx\ufffd\ufffd\ufffd"
    assert ending.finish_reason == "length"


async def test_reasoning_refusal_and_nonsense_usage(raw: RawServer, make_openai: MakeAdapter) -> None:
    raw.play(
        chunked(
            chat_chunk({"reasoning_content": "Let me "}),
            chat_chunk({"reasoning": "see."}),
            chat_chunk({"refusal": "No."}),
            chat_chunk({"content": ["not text"]}, "weird"),
            chat_chunk(usage=USAGE | {"prompt_tokens": -3, "prompt_tokens_details": None}),
            DONE,
        )
    )
    text, reasoning, ending = await collect(make_openai(), make_call())
    assert (text, reasoning) == ("No.", "Let me see.")
    assert ending.finish_reason == "other"
    assert ending.meters == Meters(0, 0, 0, 20, 5)


async def test_connection_that_was_closed_meanwhile_is_opened_anew(raw: RawServer, make_openai: MakeAdapter) -> None:
    async def then_close(writer: asyncio.StreamWriter) -> bool:
        await answer({"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}]})(writer)
        writer.write_eof()
        return True

    raw.play(then_close)
    adapter = make_openai()
    for _ in range(3):
        raw.closed.clear()
        assert (await collect(adapter, make_call(stream=False)))[0] == "hi"
        await raw.closed.wait()


@pytest.mark.parametrize(("lasting", "connections"), [(True, 1), (False, 3)])
async def test_connection_is_used_again_where_it_lasts(
    raw: RawServer, make_openai: MakeAdapter, lasting: bool, connections: int
) -> None:
    raw.play(answer({"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}]}))
    adapter = make_openai(lasting=lasting)
    for _ in range(3):
        await collect(adapter, make_call(stream=False))
    assert raw.connections == connections
