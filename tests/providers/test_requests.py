"""What is sent: bodies, refused parameters, and the official SDKs as the judges of path, headers and body."""

from typing import Any

import anthropic as anthropic_sdk
import openai as openai_sdk
import pytest

from service.domain.history import Line
from service.providers import anthropic, openai
from service.providers.adapter import Adapter
from service.providers.base import Call, ProviderFailure
from service.providers.transport import BASE_HEADERS, Endpoint
from tests.providers.raw import CHAT, DONE, KEY, MESSAGE, MakeAdapter, RawServer, answer, chunked, collect, make_call

REPLY = {"id": "c", "model": "m", "choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}]}
MESSAGE_REPLY: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "m",
    "content": [{"type": "text", "text": "hi"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 1, "output_tokens": 1},
}
# What the SDKs say about themselves and their HTTP client is theirs.
OWN = {"user-agent", "host", "content-length", "accept-encoding", "connection"}
ENVIRONMENTS: list[dict[str, str]] = [
    {},
    {"OPENAI_ORG_ID": "org-1", "OPENAI_PROJECT_ID": "proj_1"},
    {"OPENAI_CUSTOM_HEADERS": "X-One: 1\n X-Two : a:b\nnonsense\n", "ANTHROPIC_CUSTOM_HEADERS": "X-One: 1\nX-Two:2"},
    {"OPENAI_CUSTOM_HEADERS": "OpenAI-Organization: other", "OPENAI_ORG_ID": "org-1"},
]


def seen(raw: RawServer) -> tuple[str, str, dict[str, str], Any]:
    request = raw.requests.pop()
    headers = {name: v for name, v in request.headers.items() if name not in OWN and not name.startswith("x-stainless")}
    return request.method, request.path, headers, request.body


async def send(adapter: Adapter, call: Call) -> None:
    try:
        await collect(adapter, call)
    finally:
        await adapter.close()


@pytest.mark.parametrize("environ", ENVIRONMENTS)
@pytest.mark.parametrize("stream", [False, True])
async def test_openai_request_is_the_one_that_the_sdk_sends(
    stream: bool, environ: dict[str, str], raw: RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    raw.play(chunked(*CHAT) if stream else answer(REPLY))
    options: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    async with openai_sdk.AsyncOpenAI(api_key=KEY, base_url=raw.url + "/v1", max_retries=0) as client:
        reply = await client.chat.completions.create(
            model="gpt-4o",
            messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi 🌍"}],
            max_completion_tokens=9,
            temperature=0.5,
            top_p=0.9,
            stop=["END"],
            seed=3,
            **options,
        )
        if stream:
            await reply.close()
    expected = seen(raw)
    headers = BASE_HEADERS | openai.auth_headers(KEY) | openai.account_headers(environ)
    messages = (Line("system", "Be brief."), Line("user", "Hi 🌍"))
    call = Call("gpt-4o", messages, stream, 9, 0.5, 0.9, ("END",), 3)
    await send(openai.OpenAIProvider("openai", Endpoint(raw.url + "/v1/", headers), own_address=True), call)
    assert seen(raw) == expected


@pytest.mark.parametrize("environ", ENVIRONMENTS)
@pytest.mark.parametrize("stream", [False, True])
async def test_anthropic_request_is_the_one_that_the_sdk_sends(
    stream: bool, environ: dict[str, str], raw: RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    raw.play(chunked(*MESSAGE) if stream else answer(MESSAGE_REPLY))
    options: dict[str, Any] = {"stream": True} if stream else {}
    async with anthropic_sdk.AsyncAnthropic(api_key=KEY, base_url=raw.url, max_retries=0) as client:
        reply = await client.messages.create(
            model="claude-opus-5",
            messages=[{"role": "user", "content": "Hi 🌍"}],
            system="Be brief.",
            max_tokens=9,
            stop_sequences=["END"],
            **options,
        )
        if stream:
            await reply.close()
    expected = seen(raw)
    headers = BASE_HEADERS | anthropic.wire_headers(KEY) | anthropic.account_headers(environ)
    messages = (Line("system", "Be brief."), Line("user", "Hi 🌍"))
    call = Call("claude-opus-5", messages, stream, 9, stop=("END",))
    await send(anthropic.AnthropicProvider("anthropic", Endpoint(raw.url, headers)), call)
    assert seen(raw) == expected


def test_addresses_are_the_ones_of_the_sdks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.delenv("ANTHROPIC_BASE_URL", raising=False)
    assert str(openai_sdk.OpenAI(api_key=KEY).base_url) == openai.BASE_URL + "/"
    assert str(anthropic_sdk.Anthropic(api_key=KEY).base_url) == anthropic.BASE_URL


async def test_compatible_server_gets_the_old_limit_name(raw: RawServer, make_openai: MakeAdapter) -> None:
    raw.play(answer(REPLY))
    await collect(make_openai(), make_call(stream=False, max_tokens=7))
    assert raw.requests[0].body == {
        "model": "m",
        "messages": [{"role": "user", "content": "Hello"}],
        "max_tokens": 7,
    }


async def test_model_known_to_refuse_is_not_asked_and_the_caller_told(
    raw: RawServer, make_openai: MakeAdapter, make_anthropic: MakeAdapter
) -> None:
    raw.play(answer(REPLY))
    _, _, ending = await collect(make_openai(), make_call(stream=False, model="o3-mini", temperature=0.7))
    assert ending.warnings == ("temperature was left out: o3-mini does not take it.",)
    raw.play(chunked(*MESSAGE))
    _, _, ending = await collect(make_anthropic(), make_call(model="claude-opus-5-5", temperature=0.7, seed=1))
    assert len(ending.warnings) == 2
    assert all("temperature" not in request.body and "seed" not in request.body for request in raw.requests)


REFUSALS = [
    "Unsupported value: 'temperature' does not support 0.7 with this model. Only the default (1) value is supported.",
    "`temperature` is deprecated for this model.",
    "temperature: Extra inputs are not permitted",
]


@pytest.mark.parametrize("message", REFUSALS)
async def test_refused_parameter_is_left_out_once_and_remembered(
    message: str, raw: RawServer, make_openai: MakeAdapter
) -> None:
    raw.play(answer({"error": {"message": message, "type": "invalid_request_error"}}, status=400), chunked(*CHAT))
    adapter = make_openai()
    for requests in (2, 3):
        text, _, ending = await collect(adapter, make_call(temperature=0.7, top_p=0.5))
        assert text == "Grüße, 🌍!"
        assert ending.warnings == ("temperature was left out: m does not take it.",)
        assert len(raw.requests) == requests
        assert "temperature" not in raw.requests[-1].body
        assert raw.requests[-1].body["top_p"] == 0.5


async def test_limit_is_renamed_when_the_model_wants_it_so(raw: RawServer, make_openai: MakeAdapter) -> None:
    said = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
    raw.play(answer({"error": {"message": said}}, status=400), chunked(CHAT[1], CHAT[3], DONE))
    _, _, ending = await collect(make_openai(), make_call(max_tokens=5))
    assert ending.warnings == ()
    assert raw.requests[1].body["max_completion_tokens"] == 5
    assert "max_tokens" not in raw.requests[1].body


async def test_value_out_of_range_is_refused_and_not_retried(raw: RawServer, make_openai: MakeAdapter) -> None:
    raw.play(answer({"error": {"message": "temperature: Input should be less than or equal to 1"}}, status=400))
    with pytest.raises(ProviderFailure) as caught:
        await collect(make_openai(), make_call(temperature=1.5))
    assert caught.value.kind == "refused"
    assert len(raw.requests) == 1


async def test_anthropic_talk_is_merged_and_begins_with_the_user(raw: RawServer, make_anthropic: MakeAdapter) -> None:
    raw.play(answer(MESSAGE_REPLY))
    talk = [
        ("system", "One."),
        ("assistant", "Welcome."),
        ("assistant", " "),
        ("user", "a"),
        ("system", "Two."),
        ("user", "b"),
    ]
    messages = tuple(Line(role, text) for role, text in talk)
    await collect(make_anthropic(), Call("m", messages, False, temperature=1.7))
    assert raw.requests[0].body == {
        "model": "m",
        "max_tokens": 4096,
        "temperature": 1.0,
        "system": "One.\n\nTwo.",
        "messages": [
            {"role": "user", "content": anthropic.CONTINUE},
            {"role": "assistant", "content": "Welcome."},
            {"role": "user", "content": "a\n\nb"},
        ],
    }


async def test_large_request_arrives_whole(raw: RawServer, make_openai: MakeAdapter) -> None:
    raw.play(answer(REPLY))
    await collect(make_openai(), make_call("ä" * 3_000_000, stream=False))
    assert len(raw.requests[0].body["messages"][0]["content"]) == 3_000_000


async def test_models_are_listed(raw: RawServer, make_openai: MakeAdapter) -> None:
    raw.play(answer({"data": [{"id": "b"}, {"id": "a"}, {"id": 3}, "c"]}))
    assert await make_openai().list_models() == ["a", "b"]
