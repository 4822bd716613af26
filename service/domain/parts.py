"""The parts of a message: text and images. A row keeps what an image is and its hash, never its bytes."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import ceil
from typing import Any

from service.domain.media import IMAGES
from service.domain.paths import clean_path
from service.domain.pixels import LARGEST
from service.domain.text import clean

# What a request may bring, and what one prompt holds: the newest.
MOST_IMAGES = 20
MOST_IMAGE_BYTES = 20_000_000
# Anthropic's rule for what an image costs, with its ceiling; other makers' images cost about as much.
PIXELS_PER_TOKEN = 750
MOST_TOKENS = 1600
BETWEEN = "\n\n"
# What a file from elsewhere may say.
MOST_READ = 64
_HASH = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class TextPart:
    text: str


@dataclass(frozen=True, slots=True)
class ImagePart:
    """An image as a message keeps it. `file` is the path that it was taken from, which may name another one now."""

    file: str
    sha256: str
    media_type: str
    size: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class FilePart:
    """An image that the caller names by a file's path; it is looked up before anything is stored."""

    path: str


@dataclass(frozen=True, slots=True)
class DataPart:
    """An image whose bytes the caller sends along."""

    media_type: str
    data: bytes


Part = TextPart | ImagePart | FilePart | DataPart


def text_of(parts: Iterable[Part]) -> str:
    """The text of a message without its images: what is searched, and what titles are made of."""
    return BETWEEN.join(part.text for part in parts if isinstance(part, TextPart))


def images_of(parts: Iterable[Part]) -> list[ImagePart]:
    return [part for part in parts if isinstance(part, ImagePart)]


def image_tokens(image: ImagePart) -> int:
    """About how many tokens it is."""
    return min(MOST_TOKENS, ceil(image.width * image.height / PIXELS_PER_TOKEN))


def left_out(image: ImagePart) -> TextPart:
    """What a model reads where an image is left out."""
    return TextPart(f"[an image was left out here: {image.file}]")


def to_json(parts: Sequence[Part]) -> list[dict[str, Any]] | None:
    """The parts as a row keeps them; None for a message of text alone. Raises TypeError for one not looked up yet."""
    shown: list[dict[str, Any]] = []
    for part in parts:
        if isinstance(part, FilePart | DataPart):
            raise TypeError("an image was not looked up")
        kind = "text" if isinstance(part, TextPart) else "image"
        shown.append({"type": kind, **asdict(part)})
    return shown or None


def from_json(parts: Iterable[Mapping[str, Any]] | None) -> tuple[TextPart | ImagePart, ...]:
    """The other way round."""
    return tuple(
        TextPart(part["text"])
        if part["type"] == "text"
        else ImagePart(**{name: part[name] for name in ImagePart.__slots__})
        for part in parts or ()
    )


def read(given: Any, content: str) -> tuple[TextPart | ImagePart, ...]:
    """Parts as a file from elsewhere has them, whose text is `content`: so it has no other bounds than that. Raises
    AttributeError, KeyError, TypeError, ValueError."""
    parts = from_json([dict(part) for part in given])
    for part in parts:
        if isinstance(part, TextPart):
            _need(isinstance(part.text, str))
            continue
        _need(isinstance(part.file, str) and clean_path(part.file) == part.file)
        _need(isinstance(part.sha256, str) and bool(_HASH.fullmatch(part.sha256)) and part.media_type in IMAGES)
        numbers = (part.size, part.width, part.height)
        _need(all(type(one) is int and 0 < one <= LARGEST for one in numbers))
    _need(0 < len(parts) <= MOST_READ and 0 < len(images_of(parts)) <= MOST_IMAGES)
    cleaned = tuple(TextPart(clean(part.text)) if isinstance(part, TextPart) else part for part in parts)
    _need(text_of(cleaned) == content)
    return cleaned


def _need(holds: bool) -> None:
    if not holds:
        raise ValueError("not the parts of a message")
