"""The shapes of a message's content: a text, or a list of texts and images."""

import re
from base64 import b64decode
from binascii import Error as Base64Error
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

from service.api.body import Body
from service.domain.history import Line
from service.domain.parts import MOST_IMAGES, DataPart, FilePart, Part, TextPart, text_of
from service.domain.paths import MOST_BYTES, clean_path

LONGEST_TEXT = 1_000_000
MOST_PARTS = 64
_DATA = re.compile(r"data:(image/(?:png|jpeg|gif|webp));base64,(.+)", re.IGNORECASE | re.DOTALL)

Text = Annotated[str, Field(min_length=1, max_length=LONGEST_TEXT)]


def _path(text: str) -> str:
    try:
        return clean_path(text)
    except ValueError as error:
        raise PydanticCustomError("path", "{why}", {"why": str(error)}) from None


def _data_url(text: str) -> str:
    if text[:5].lower() != "data:":
        raise PydanticCustomError(
            "address",
            "No address is fetched: send the image itself as `data:image/png;base64,…`, or upload it with `PUT"
            " /files/…` and name it as `{type: image, file}`.",
        )
    _decode(text)
    return text


def _decode(text: str) -> DataPart:
    found = _DATA.fullmatch(text)
    if found is None:
        raise PydanticCustomError("data_url", "An image is a PNG, JPEG, GIF or WebP as `data:image/png;base64,…`.")
    try:
        return DataPart(found[1].lower(), b64decode(found[2], validate=True))
    except (Base64Error, ValueError):
        raise PydanticCustomError("data_url", "What follows `base64,` is not base64.") from None


class TextPartIn(Body):
    """A piece of the text."""

    type: Literal["text"]
    text: Text

    def part(self) -> Part:
        return TextPart(self.text)


class ImagePartIn(Body):
    """An image that is a file of the user's: its path."""

    type: Literal["image"]
    file: Annotated[str, Field(min_length=1, max_length=MOST_BYTES), AfterValidator(_path)]

    def part(self) -> Part:
        return FilePart(self.file)


class ImageUrl(Body):
    """The image itself, as a `data:` URL. Addresses of the network are not fetched."""

    url: Annotated[str, AfterValidator(_data_url)]


class ImageUrlPartIn(Body):
    """An image that is sent along; it becomes a file of the user's."""

    type: Literal["image_url"]
    image_url: ImageUrl

    def part(self) -> Part:
        return _decode(self.image_url.url)


PartIn = Annotated[TextPartIn | ImagePartIn | ImageUrlPartIn, Field(discriminator="type")]


def _check(parts: list[PartIn]) -> list[PartIn]:
    if sum(not isinstance(part, TextPartIn) for part in parts) > MOST_IMAGES:
        raise PydanticCustomError("too_many_images", "A message may hold {most} images.", {"most": MOST_IMAGES})
    if sum(len(part.text) for part in parts if isinstance(part, TextPartIn)) > LONGEST_TEXT - 2 * MOST_PARTS:
        raise PydanticCustomError("too_long", "The texts of a message are too long together.")
    return parts


Parts = Annotated[list[PartIn], Field(min_length=1, max_length=MOST_PARTS), AfterValidator(_check)]
Content = Annotated[
    Annotated[Text, Tag("text")] | Annotated[Parts, Tag("parts")],
    Discriminator(lambda value: "parts" if isinstance(value, list) else "text"),
]


class TextPartOut(BaseModel):
    """A piece of the text."""

    type: Literal["text"]
    text: str


class ImagePartOut(BaseModel):
    """An image as a message keeps it. `file` is the path that it was taken from: a file of that path may be another one
    by now, or gone, which `sha256` tells."""

    type: Literal["image"]
    file: str
    sha256: str
    media_type: str
    size: int
    width: int
    height: int


PartOut = Annotated[TextPartOut | ImagePartOut, Field(discriminator="type")]


def has_image(content: Any) -> bool:
    return isinstance(content, list) and any(not isinstance(part, TextPartIn) for part in content)


def line(role: str, content: str | list[PartIn]) -> Line:
    """What is said. A list of texts is one text; the images of a list are still to be looked up."""
    if isinstance(content, str):
        return Line(role, content)
    parts = tuple(part.part() for part in content)
    return Line(role, text_of(parts), parts if has_image(content) else ())
