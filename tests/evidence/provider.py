"""A model's server on OpenAI's wire that writes down what it was asked and what it said."""

import json
import re
import select
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

WORDS = 4
PAUSE_MS = 6  # a little more than the journal lingers, so that words are committed one by one
WISH = re.compile(r"(say|every|long|hang):(\d+)")
MODEL = "told"
# Dollars per million tokens, in and out.
PRICES = ("1", "2")


@dataclass(slots=True)
class Asked:
    """One call that reached the provider: the messages, and what was said."""

    messages: list[dict[str, str]]
    said: list[str] = field(default_factory=list)

    @property
    def question(self) -> str:
        return self.messages[-1]["content"]


class Provider:
    """Answers a question with words that no other call gets.

    A question may wish for other words than WORDS: `say:40` for so many, `every:20` for milliseconds between them,
    `long:900` for letters in each; and `hang:2` to be left hanging after two, the first time that it is asked.
    """

    def __init__(self) -> None:
        self.calls: list[Asked] = []
        self.over = threading.Event()
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()
        self._server = _Server(self)

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def settings(self) -> dict[str, str]:
        """With which a service asks it for MODEL."""
        model = {"id": MODEL, "provider": "told", "input_price": PRICES[0], "output_price": PRICES[1]}
        providers = [{"name": "told", "base_url": self.url}]
        return {"EVERTURN_PROVIDERS": json.dumps(providers), "EVERTURN_MODELS": json.dumps([model])}

    def calls_of(self, question: str) -> list[Asked]:
        return [call for call in self.calls if call.question == question]

    def said(self, question: str) -> int:
        """How many words were said to a question so far, in all its calls."""
        return sum(len(call.said) for call in self.calls_of(question))

    def note(self, messages: list[dict[str, str]]) -> tuple[Asked, int]:
        """The call's entry, and its number among those of the same question, from 0."""
        with self._lock:
            call, before = Asked(messages), len(self.calls_of(messages[-1]["content"]))
            self.calls.append(call)
            return call, before

    @contextmanager
    def answering(self) -> Iterator[None]:
        """While a call is answered."""
        with self._lock:
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            yield
        finally:
            with self._lock:
                self._at_once -= 1

    @contextmanager
    def serving(self) -> Iterator[None]:
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self.over.set()
            self._server.shutdown()
            self._server.server_close()
            thread.join()


def usage(words: int) -> dict[str, int]:
    """What an answer of so many words is said to use."""
    return {"prompt_tokens": 20 + words, "completion_tokens": 3 * words, "total_tokens": 20 + 4 * words}


@dataclass(frozen=True, slots=True)
class _Plan:
    words: list[str]
    pause: float
    hang: int | None


def _plan(question: str, *, number: int, hangs: bool) -> _Plan:
    wish = {name: int(value) for name, value in WISH.findall(question)}
    words = [
        f"{'äöü'[one % 3]}{number}.{one} ".rjust(wish.get("long", 0), ".") for one in range(wish.get("say", WORDS))
    ]
    return _Plan(words, wish.get("every", PAUSE_MS) / 1000, wish.get("hang") if hangs else None)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # Hundreds of turns may call at the same moment; one that finds the queue full tries again a second later.
    request_queue_size = 512

    def __init__(self, provider: Provider) -> None:
        super().__init__(("127.0.0.1", 0), _Wire)
        self.provider = provider


class _Wire(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def handle(self) -> None:
        with suppress(ConnectionError):  # the service died while its connection was idle
            super().handle()

    def do_GET(self) -> None:
        self._whole({"object": "list", "data": []})

    def do_POST(self) -> None:
        """A request that does not come to its end is no call."""
        self.close_connection = True
        try:
            asked = json.loads(self.rfile.read(int(self.headers.get("content-length") or 0)))
        except ValueError:
            return
        provider = self.server.provider
        call, before = provider.note(asked["messages"])
        plan = _plan(call.question, number=len(provider.calls), hangs=before == 0)
        with provider.answering(), suppress(OSError):  # the service is gone
            if asked.get("stream"):
                self._stream(call, plan)
            else:
                self._fold(call, plan)
            self.close_connection = False

    def _fold(self, call: Asked, plan: "_Plan") -> None:
        if plan.hang is not None:
            self._hang()
        call.said += plan.words
        message = {"role": "assistant", "content": "".join(plan.words)}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        self._whole({"id": "r", "model": "told", "choices": [choice], "usage": usage(len(plan.words))})

    def _stream(self, call: Asked, plan: "_Plan") -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for index, word in enumerate(plan.words):
            if index == plan.hang:
                self._hang()
            call.said.append(word)
            self._chunk({"choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}]})
            time.sleep(plan.pause)
        self._chunk({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        self._chunk({"choices": [], "usage": usage(len(plan.words))})
        self._send(b"data: [DONE]\n\n")
        self.wfile.write(b"0\r\n\r\n")

    def _hang(self) -> None:
        """Say nothing until the service hangs up. Raises ConnectionResetError."""
        while not self.server.provider.over.is_set():
            if select.select([self.connection], [], [], 0.1)[0]:
                break
        raise ConnectionResetError

    def _chunk(self, fields: dict[str, Any]) -> None:
        whole = {"id": "r", "object": "chat.completion.chunk", "model": "told", **fields}
        self._send(b"data: " + json.dumps(whole).encode() + b"\n\n")

    def _send(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))

    def _whole(self, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Say nothing of requests."""
