"""The page's own reading of streams, run by Node.js: it takes an answer up again wherever it was cut."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.evidence.provider import MODEL
from tests.evidence.store import patiently
from tests.web.conftest import Place

FOLLOW = Path(__file__).with_name("follow.mjs")
SECONDS = 60
# Older ones take a file ending in .js for no module.
OLDEST = (20, 19)


@cache
def why_not() -> str | None:
    """Why no script can be run here, or None where it can."""
    if (node := shutil.which("node")) is None:
        return "Node.js is not installed"
    said = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    version = tuple(map(int, re.findall(r"\d+", said)[:2]))
    return f"Node.js {said.strip()} is too old" if version < OLDEST else None


pytestmark = pytest.mark.skipif(why_not() is not None, reason=why_not() or "")
Event = dict[str, Any]


class Reader:
    """A script that follows a turn. `events` has what it printed once it has ended."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def events(self) -> list[Event]:
        said, _ = self._process.communicate(timeout=SECONDS)
        assert self._process.returncode == 0
        return [json.loads(line) for line in said.splitlines()]


@contextmanager
def reading(place: Place, question: str, *, model: str = MODEL) -> Iterator[Reader]:
    command = ["node", str(FOLLOW), place.url, place.key, model, question]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield Reader(process)
    finally:
        process.kill()
        process.communicate()


def wait_for_words(place: Place, question: str, words: int) -> None:
    heard = any(place.provider.said(question) >= words for _ in patiently())
    assert heard, "the answer does not come"


def text_of(events: list[Event]) -> str:
    return "".join(event["data"]["token"] for event in events if event["type"] == "message")


def kinds(events: list[Event]) -> list[str]:
    """What came beside the words."""
    return [event["type"] for event in events if event["type"] not in ("message", "waiting")]


def test_an_answer_cut_off_several_times_comes_whole_and_once(place: Place) -> None:
    question = "Cut me, say:80 every:15 äöü 🌊"
    with reading(place, question) as reader:
        for words in (3, 30, 55):
            wait_for_words(place, question, words)
            place.relay.cut()
        events = reader.events()
    [call] = place.provider.calls_of(question)
    assert text_of(events) == "".join(call.said)
    assert kinds(events) == ["completion", "usage"]
    assert [event for event in events if event["type"] == "waiting"]


def test_a_question_whose_answer_was_lost_is_asked_once(place: Place) -> None:
    question = "Lose the answer to me"
    place.relay.trap(question.encode())
    with reading(place, question) as reader:
        events = reader.events()
    assert place.relay.sprung.is_set()
    [call] = place.provider.calls_of(question)
    assert (text_of(events), kinds(events)) == ("".join(call.said), ["completion", "usage"])


def test_a_killed_service_leaves_what_it_said_and_why_no_more(place: Place) -> None:
    question = "Kill it, say:400 every:15"
    with reading(place, question) as reader:
        wait_for_words(place, question, 20)
        place.service.kill()
        place.service.start()
        events = reader.events()
    assert kinds(events) == ["completion", "error"]
    assert events[-1]["data"]["code"] == "worker_lost"
    number = events[0]["data"]["message_id"]
    headers = {"Authorization": f"Bearer {place.key}"}
    kept = httpx2.get(f"{place.service.url}/messages/{number}", headers=headers, verify=False).json()
    assert text_of(events) == kept["content"] != ""


def test_what_is_refused_is_not_asked_again(place: Place) -> None:
    with reading(place, "Whom?", model="nobody") as reader:
        [event] = reader.events()
    assert (event["type"], event["data"]["status"]) == ("problem", 404)
    assert "nobody" in event["data"]["message"]
