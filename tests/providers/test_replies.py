"""The same answers read by the adapters and by the official SDKs, from a real server for both wires."""

import anthropic as anthropic_sdk
import openai as openai_sdk
import pytest
from llmock.pytest_plugin import LLMock

from service.domain.meters import Meters
from service.providers.base import ProviderFailure
from tests.providers.raw import MakeAdapter, collect, make_call

TEXT = "Grüße, 🌍! " * 20


@pytest.mark.parametrize("stream", [False, True])
async def test_openai_adapter_reads_what_the_sdk_reads(stream: bool, llmock: LLMock, make_openai: MakeAdapter) -> None:
    llmock.reply(TEXT, times=None)
    text, _, ending = await collect(make_openai(llmock.base_url("openai")), make_call(stream=stream, max_tokens=500))
    async with openai_sdk.AsyncOpenAI(max_retries=0) as client:
        reply = await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hello"}])
    assert reply.usage is not None
    assert text == reply.choices[0].message.content == TEXT
    assert ending.finish_reason == reply.choices[0].finish_reason
    assert ending.meters == Meters(reply.usage.prompt_tokens, output_tokens=reply.usage.completion_tokens)
    assert ending.upstream_model == reply.model


@pytest.mark.parametrize("stream", [False, True])
async def test_anthropic_adapter_reads_what_the_sdk_reads(
    stream: bool, llmock: LLMock, make_anthropic: MakeAdapter
) -> None:
    llmock.reply(TEXT, times=None)
    text, _, ending = await collect(make_anthropic(llmock.base_url("anthropic")), make_call(stream=stream))
    async with anthropic_sdk.AsyncAnthropic(max_retries=0) as client:
        reply = await client.messages.create(
            model="m", max_tokens=4096, messages=[{"role": "user", "content": "Hello"}]
        )
    assert text == "".join(block.text for block in reply.content if block.type == "text") == TEXT
    assert ending.finish_reason == "stop"
    assert ending.meters == Meters(reply.usage.input_tokens, output_tokens=reply.usage.output_tokens)


@pytest.mark.parametrize("wire", ["openai", "anthropic"])
async def test_scripted_faults_are_noticed(
    wire: str, llmock: LLMock, make_openai: MakeAdapter, make_anthropic: MakeAdapter
) -> None:
    adapter = make_openai(llmock.base_url(wire)) if wire == "openai" else make_anthropic(llmock.base_url(wire))
    for fault, kind in (
        (llmock.truncate, "truncated"),
        (llmock.disconnect, "unreachable"),
        (llmock.corrupt, "malformed"),
    ):
        fault(after_chunks=3)
        with pytest.raises(ProviderFailure) as caught:
            await collect(adapter, make_call("Tell me a long story, please."))
        assert caught.value.kind == kind


async def test_tool_call_ends_as_one(llmock: LLMock, make_openai: MakeAdapter, make_anthropic: MakeAdapter) -> None:
    llmock.call_tool("look", {"a": 1}, text="I look.", times=None)
    for adapter in (make_openai(llmock.base_url("openai")), make_anthropic(llmock.base_url("anthropic"))):
        text, _, ending = await collect(adapter, make_call())
        assert (text, ending.finish_reason) == ("I look.", "tool_calls")
