"""Images on both wires: fetched when they are sent, told of where they are gone, merged with what is beside."""

from dataclasses import replace
from typing import Any

import pytest

from service.domain.history import Line
from service.domain.parts import ImagePart, TextPart
from service.providers.base import Call
from tests.pictures import data_url, png
from tests.providers.raw import MakeAdapter, RawServer, answer, collect
from tests.providers.test_requests import MESSAGE_REPLY, REPLY

PNG = png()
ONE, TWO = (ImagePart(f"{name}.png", name * 64, "image/png", len(PNG), 30, 20) for name in "ab")
BYTES = {ONE.sha256: PNG}
GONE = "[an image was left out here: b.png]"
NOTE = "An image is not here any more and was left out: b.png"
TALK = (
    Line("user", "Hi", (TextPart("Hi"), ONE)),
    Line("user", "and", (TWO, TextPart("  "), TextPart("and"), ONE)),
    Line("user", "?"),
    Line("assistant", "Yes."),
)


class Loader:
    """What has the bytes of some images, and counts who asks."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def __call__(self, sha256: str) -> bytes | None:
        self.asked.append(sha256)
        return BYTES.get(sha256)


async def test_openai_gets_data_urls(raw: RawServer, make_openai: MakeAdapter) -> None:
    raw.play(answer(REPLY))
    loader = Loader()
    _, _, ending = await collect(make_openai(), Call("m", TALK, False, load=loader))
    url = {"type": "image_url", "image_url": {"url": data_url(BYTES[ONE.sha256])}}
    text = {name: {"type": "text", "text": name} for name in ("Hi", "and", GONE)}
    assert raw.requests[0].body["messages"] == [
        {"role": "user", "content": [text["Hi"], url]},
        {"role": "user", "content": [text[GONE], text["and"], url]},
        {"role": "user", "content": "?"},
        {"role": "assistant", "content": "Yes."},
    ]
    assert ending.warnings == (NOTE,)
    assert loader.asked == [ONE.sha256, TWO.sha256]


async def test_anthropic_gets_blocks_and_roles_in_turns(raw: RawServer, make_anthropic: MakeAdapter) -> None:
    raw.play(answer(MESSAGE_REPLY))
    _, _, ending = await collect(make_anthropic(), Call("m", TALK, False, load=Loader()))
    data = data_url(BYTES[ONE.sha256]).partition(",")[2]
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}}
    text = {name: {"type": "text", "text": name} for name in ("Hi", "and", "?", GONE)}
    assert raw.requests[0].body["messages"] == [
        {"role": "user", "content": [text["Hi"], image, text[GONE], text["and"], image, text["?"]]},
        {"role": "assistant", "content": "Yes."},
    ]
    assert ending.warnings == (NOTE,)


async def test_a_parameter_that_is_refused_reads_no_image_twice(raw: RawServer, make_openai: MakeAdapter) -> None:
    error = {"error": {"message": "Unsupported parameter: 'seed' is not supported with this model."}}
    raw.play(answer(error, status=400), answer(REPLY))
    loader = Loader()
    await collect(make_openai(), Call("m", TALK, False, seed=3, load=loader))
    assert raw.requests[0].body["messages"] == raw.requests[1].body["messages"]
    assert loader.asked == [ONE.sha256, TWO.sha256]


@pytest.mark.parametrize("lie", [{"size": 1}, {"width": 1}, {"height": 1}, {"media_type": "image/gif"}])
async def test_an_image_that_is_not_what_is_said_of_it_is_left_out(
    raw: RawServer, make_openai: MakeAdapter, lie: dict[str, Any]
) -> None:
    """What an import says of an image was reckoned with: its bytes, and its tokens."""
    raw.play(answer(REPLY))
    lines = (Line("user", "", (ONE,)), Line("user", "", (replace(ONE, **lie),)))
    await collect(make_openai(), Call("m", lines, False, load=Loader()))
    note = {"type": "text", "text": "[an image was left out here: a.png]"}
    assert [one["content"] for one in raw.requests[0].body["messages"]] == [[note]] * 2
