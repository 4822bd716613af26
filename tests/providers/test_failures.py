"""Failures: each status beside the official SDKs' exception, Retry-After, and nothing secret in a detail."""

import time
from email.utils import formatdate

import anthropic as anthropic_sdk
import openai as openai_sdk
import pytest
from llmock.pytest_plugin import LLMock

from service.providers.base import FailureKind, ProviderFailure
from tests.providers.raw import KEY, MakeAdapter, RawServer, answer, collect, make_call

STATUSES: list[tuple[int, FailureKind, str]] = [
    (400, "refused", "BadRequestError"),
    (401, "misconfigured", "AuthenticationError"),
    (403, "misconfigured", "PermissionDeniedError"),
    (404, "misconfigured", "NotFoundError"),
    (413, "refused", "APIStatusError"),
    (422, "refused", "UnprocessableEntityError"),
    (429, "rate_limited", "RateLimitError"),
    (500, "server_error", "InternalServerError"),
    (502, "server_error", "InternalServerError"),
    (503, "overloaded", "InternalServerError"),
    (529, "overloaded", "InternalServerError"),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("status", "kind", "sdk_class"), STATUSES)
async def test_status_is_the_kind_that_the_sdks_say(
    status: int, kind: FailureKind, sdk_class: str, stream: bool, llmock: LLMock, make_openai: MakeAdapter,
    make_anthropic: MakeAdapter,
) -> None:  # fmt: skip
    llmock.fail(status, times=None)
    for adapter in (make_openai(llmock.base_url("openai")), make_anthropic(llmock.base_url("anthropic"))):
        with pytest.raises(ProviderFailure) as caught:
            await collect(adapter, make_call(stream=stream))
        assert (caught.value.kind, caught.value.status) == (kind, status)
    async with openai_sdk.AsyncOpenAI(max_retries=0) as openai_client:
        with pytest.raises(getattr(openai_sdk, sdk_class)):
            await openai_client.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}])
    async with anthropic_sdk.AsyncAnthropic(max_retries=0) as client:
        with pytest.raises(getattr(anthropic_sdk, sdk_class)):
            await client.messages.create(model="m", max_tokens=9, messages=[{"role": "user", "content": "x"}])


@pytest.mark.parametrize(
    ("value", "least", "most"),
    [
        ("7", 7, 7),
        ("0.5", 0.5, 0.5),
        ("-3", 0, 0),
        ("999999", 3600, 3600),
        # Counted from the collection.
        pytest.param(formatdate(time.time() + 3000, usegmt=True), 2000, 3001, id="a date to come"),
        pytest.param(formatdate(time.time() - 90, usegmt=True), 0, 0, id="a date gone by"),
    ],
)
async def test_retry_after_is_read_and_bounded(
    value: str, least: float, most: float, raw: RawServer, make_openai: MakeAdapter
) -> None:
    raw.play(answer({}, status=429, headers=f"Retry-After: {value}\r\n"))
    with pytest.raises(ProviderFailure) as caught:
        await collect(make_openai(), make_call())
    assert caught.value.retry_after is not None
    assert least <= caught.value.retry_after <= most


@pytest.mark.parametrize("value", ["soon", "nan", ""])
async def test_senseless_retry_after_is_none(value: str, raw: RawServer, make_openai: MakeAdapter) -> None:
    raw.play(answer({}, status=503, headers=f"Retry-After: {value}\r\n"))
    with pytest.raises(ProviderFailure) as caught:
        await collect(make_openai(), make_call())
    assert caught.value.retry_after is None


async def test_refusal_is_told_without_secrets_and_cut(raw: RawServer, make_openai: MakeAdapter) -> None:
    said = f"The key {KEY} or sk-proj-abcdefgh, Bearer xyz\nis not\x00 good. " + "x" * 1000
    raw.play(answer({"error": {"message": said}}, status=400))
    with pytest.raises(ProviderFailure) as caught:
        await collect(make_openai(), make_call())
    detail = caught.value.detail
    assert detail.startswith("openai refused the request: The key [redacted] or [redacted], [redacted] is not\ufffd")
    assert len(detail) == 300


@pytest.mark.parametrize("status", [401, 429, 500])
async def test_other_failures_do_not_repeat_the_provider(status: int, raw: RawServer, make_openai: MakeAdapter) -> None:
    raw.play(answer({"error": {"message": "internal host db7"}}, status=status))
    with pytest.raises(ProviderFailure) as caught:
        await collect(make_openai(), make_call())
    assert "db7" not in str(caught.value)
    assert str(status) in caught.value.detail


@pytest.mark.parametrize("body", [b"", b"<html>no</html>", b"[]", b"\xff", b'{"error": "plain"}', b'{"detail": "d"}'])
async def test_any_error_body_is_survived(body: bytes, raw: RawServer, make_openai: MakeAdapter) -> None:
    raw.play(answer(body, status=422))
    with pytest.raises(ProviderFailure) as caught:
        await collect(make_openai(), make_call())
    assert caught.value.kind == "refused"


@pytest.mark.parametrize("body", [b"", b"nonsense", b"[]", b'{"choices": []}', b'{"choices": [7]}'])
async def test_reply_that_is_not_the_wires_is_malformed(body: bytes, raw: RawServer, make_openai: MakeAdapter) -> None:
    raw.play(answer(body))
    with pytest.raises(ProviderFailure) as caught:
        await collect(make_openai(), make_call(stream=False))
    assert caught.value.kind == "malformed"
