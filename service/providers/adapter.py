"""What the adapters of both wires have in common: send, learn what is refused, fold the answer into pieces."""

from base64 import b64encode
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from dataclasses import replace
from typing import Any, ClassVar, Literal, Protocol, TypeVar

from pydantic_core import to_json

from service.domain.history import Line
from service.domain.parts import ImagePart, TextPart, images_of, left_out
from service.domain.pixels import measure
from service.domain.text import Cleaner
from service.providers import wire
from service.providers.base import Call, Delta, Piece, ProviderFailure
from service.providers.parameters import Learnt
from service.providers.transport import Endpoint, HttpClient

MAX_TRIES = 4
T = TypeVar("T")


class WireError(Exception):
    """Raised by a fold: an `error` object in the answer, which it carries, or what is not its wire's."""

    def __init__(self, error: Any = None) -> None:
        super().__init__("an error object" if error else "not this wire's")
        self.error = error


class Fold(Protocol):
    """The state of one answer."""

    @property
    def done(self) -> bool:
        """Whether the wire's own last event came: nothing more is read."""
        ...

    def feed(self, data: bytes, pieces: list[Piece]) -> None:
        """Append what the data of an event says. Raises `WireError`, or ValueError for what is not JSON."""
        ...

    def feed_whole(self, reply: dict[str, Any], pieces: list[Piece]) -> None:
        """Append what an answer in one piece says. Raises `WireError`."""
        ...

    def finish(self, pieces: list[Piece], warnings: tuple[str, ...]) -> bool:
        """Append the `Ending`; False where the answer did not come to its end."""
        ...


class Voice:
    """Makes deltas of one kind out of pieces of text: cleaned, and never empty."""

    __slots__ = ("_cleaner", "_kind")

    def __init__(self, kind: Literal["text", "reasoning"]) -> None:
        self._kind = kind
        self._cleaner = Cleaner()

    def say(self, text: Any, pieces: list[Piece]) -> None:
        if isinstance(text, str) and (text := self._cleaner.feed(text)):
            pieces.append(Delta(self._kind, text))

    def finish(self, pieces: list[Piece]) -> None:
        if text := self._cleaner.finish():
            pieces.append(Delta(self._kind, text))


class Adapter:
    """A `Provider` for one wire at one address; a subclass says what the wire looks like."""

    path: ClassVar[str]
    models_path: ClassVar[str]

    def __init__(self, name: str, endpoint: Endpoint) -> None:
        self._name = name
        self._secrets = endpoint.secrets
        self._client = HttpClient(name, endpoint)
        self._learnt = Learnt()

    @property
    def name(self) -> str:
        return self._name

    def build(self, call: Call, refused: frozenset[str]) -> tuple[dict[str, Any], tuple[str, ...]]:
        """The request body without the refused parameters, and the warnings. Raises `ProviderFailure`."""
        raise NotImplementedError

    def fold(self) -> Fold:
        raise NotImplementedError

    async def run(self, call: Call) -> AsyncGenerator[list[Piece]]:
        """See `Provider.run`."""
        fold = self.fold()
        if not call.stream:
            reply, warnings = await self._send(call, self._post)
            yield self._whole(fold, reply, warnings)
            return
        stream, warnings = await self._send(call, self._client.stream)
        try:
            last = False
            while not last:
                pieces, failure = self._batch(fold, await stream.read(), stream.ended)
                last = fold.done or stream.ended
                if last and failure is None:
                    failure = self._finish(fold, pieces, warnings)
                if last and failure is None:
                    stream.finish()
                if pieces:
                    yield pieces
                if failure is not None:
                    raise failure
        finally:
            stream.close()

    async def list_models(self) -> list[str]:
        """See `Provider.list_models`."""
        reply = await self._client.fetch("GET", self.models_path)
        items = reply.get("data")
        if not isinstance(items, list):
            raise wire.failure(self._name, "malformed", why="no list of models")
        return sorted({item["id"] for item in items if isinstance(item, dict) and isinstance(item.get("id"), str)})

    async def warm(self) -> None:
        """Do now what the first call would wait for."""
        await self._client.warm()

    async def close(self) -> None:
        await self._client.close()

    async def _post(self, path: str, body: bytes) -> Any:
        return await self._client.fetch("POST", path, body=body)

    async def _send(self, call: Call, send: Callable[[str, bytes], Awaitable[T]]) -> tuple[T, tuple[str, ...]]:
        call, notes = await _rehydrated(call)
        for tries_left in range(MAX_TRIES - 1, -1, -1):
            body, warnings = self.build(call, self._learnt.refused(call.model))
            try:
                return await send(self.path, to_json(body)), (*notes, *warnings)
            except ProviderFailure as failure:
                if not tries_left or not self._learnt.learn(call.model, body, failure):
                    raise
        raise AssertionError("unreachable")

    def _whole(self, fold: Fold, reply: dict[str, Any], warnings: tuple[str, ...]) -> list[Piece]:
        pieces: list[Piece] = []
        try:
            fold.feed_whole(reply, pieces)
        except WireError as error:
            raise self._failure(error) from error
        if failure := self._finish(fold, pieces, warnings):
            raise failure
        return pieces

    def _batch(self, fold: Fold, events: list[bytes], ended: bool) -> tuple[list[Piece], ProviderFailure | None]:
        """What the events say, up to the first that is a failure: what came before it is not lost."""
        pieces: list[Piece] = []
        try:
            for data in events:
                fold.feed(data, pieces)
                if fold.done:
                    break
        except WireError as error:
            return pieces, self._failure(error)
        except ValueError:
            return pieces, wire.failure(self._name, "truncated" if ended else "malformed")
        return pieces, None

    def _finish(self, fold: Fold, pieces: list[Piece], warnings: tuple[str, ...]) -> ProviderFailure | None:
        return None if fold.finish(pieces, warnings) else wire.failure(self._name, "truncated")

    def _failure(self, error: WireError) -> ProviderFailure:
        if error.error is None:
            return wire.failure(self._name, "malformed")
        return wire.from_error_object(self._name, error.error, self._secrets)


def pieces_of(line: Line, call: Call) -> Iterator[str | tuple[str, str]]:
    """What a line with images consists of: texts, and images as their media type and their base64."""
    for part in line.parts:
        if isinstance(part, ImagePart):
            data = call.pictures.get(part.sha256)
            yield left_out(part).text if data is None else (part.media_type, data)
        elif isinstance(part, TextPart) and part.text.strip():
            yield part.text


async def _rehydrated(call: Call) -> tuple[Call, tuple[str, ...]]:
    """The call with the bytes of its images, and a note for each that is gone. Raises `ProviderFailure`."""
    images: dict[str, list[ImagePart]] = {}
    for image in (image for line in call.messages for image in images_of(line.parts)):
        images.setdefault(image.sha256, []).append(image)
    if not images or call.load is None:
        return call, ()
    pictures: dict[str, str] = {}
    # One after the other: the loop turns between them, and only one is here twice.
    for sha256, shown in images.items():
        data = await call.load(sha256)
        if data is not None and all(_fits(image, data) for image in shown):
            pictures[sha256] = b64encode(data).decode()
    gone = [shown[-1].file for sha256, shown in images.items() if sha256 not in pictures]
    notes = tuple(f"An image is not here any more and was left out: {file}" for file in gone)
    return replace(call, pictures=pictures), notes


def _fits(image: ImagePart, data: bytes) -> bool:
    """Whether the bytes are what is said of them: a message from elsewhere may say less, and less was reckoned with."""
    try:
        return (len(data), *measure(data)) == (image.size, image.media_type, image.width, image.height)
    except ValueError:
        return False
