"""The part of a conversation that fits a model's window."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from service.domain.parts import (
    MOST_IMAGE_BYTES,
    MOST_IMAGES,
    ImagePart,
    Part,
    image_tokens,
    images_of,
    left_out,
    text_of,
)

# Where a provider gives no count: four bytes of UTF-8 a token and four tokens a message (OpenAI's rule of thumb).
BYTES_PER_TOKEN = 4
TOKENS_PER_MESSAGE = 4
# What is kept free for an answer whose length nobody bounds, and how far back a conversation is read at all.
ANSWER_TOKENS = 1024
MOST_MESSAGES = 1000


@dataclass(frozen=True, slots=True)
class Line:
    """One message of a prompt. `parts` are there where it holds images; `content` is then the text among them."""

    role: str
    content: str
    parts: tuple[Part, ...] = ()


def estimate_tokens(text: str) -> int:
    """About how many tokens a text is, rounded up."""
    return -(-len(text.encode()) // BYTES_PER_TOKEN)


def estimate_prompt(lines: Sequence[Line]) -> int:
    return sum(estimate_tokens(_said(line)) + TOKENS_PER_MESSAGE + _seen(line) for line in lines)


def window_for(context: int | None, answer: int | None) -> int | None:
    """The tokens that a prompt may have in a context that the answer has to fit into as well."""
    return None if context is None else max(1, context - (answer or ANSWER_TOKENS))


def assemble(spoken: Iterable[Line], system_prompt: str | None) -> list[Line]:
    """A conversation as a model reads it: its system prompt first, without messages that never got any content."""
    lines = [line for line in spoken if line.content or line.parts]
    return [Line("system", system_prompt), *lines] if system_prompt else lines


def fit(lines: Sequence[Line], window: int | None) -> tuple[list[Line], int]:
    """The newest lines that fit into `window` tokens and how many were left out.

    System lines and the last line always stay. None is a window without an end.
    """
    if window is None or sum(len(_said(line)) + TOKENS_PER_MESSAGE + _seen(line) for line in lines) <= window:
        return list(lines), 0
    kept_for_sure = {index for index, line in enumerate(lines) if line.role == "system"} | {len(lines) - 1}
    room = window - estimate_prompt([lines[index] for index in kept_for_sure])
    kept = set(kept_for_sure)
    for index in range(len(lines) - 1, -1, -1):
        if index in kept_for_sure:
            continue
        room -= estimate_prompt([lines[index]])
        if room < 0:
            break
        kept.add(index)
    return [line for index, line in enumerate(lines) if index in kept], len(lines) - len(kept)


def show(lines: Sequence[Line], *, sighted: bool) -> tuple[list[Line], int]:
    """The lines with the newest images that one prompt may hold, none for a model that does not see; how many went.

    A note stands where an image was left out. Only users show images: of other roles the text is left.
    """
    count, size, gone = 0, 0, 0
    shown = list(lines)
    for index in range(len(shown) - 1, -1, -1):
        if not shown[index].parts:
            continue
        if shown[index].role != "user":
            shown[index] = Line(shown[index].role, _said(shown[index]))
            continue
        parts: list[Part] = []
        for part in reversed(shown[index].parts):
            if isinstance(part, ImagePart):
                count, size = count + 1, size + part.size
                if not sighted or count > MOST_IMAGES or size > MOST_IMAGE_BYTES:
                    gone += 1
                    parts.append(left_out(part))
                    continue
            parts.append(part)
        shown[index] = _with(shown[index], tuple(reversed(parts)))
    return shown, gone


def _with(line: Line, parts: tuple[Part, ...]) -> Line:
    """What a line says in these parts: text alone is one text."""
    return replace(line, parts=parts) if images_of(parts) else Line(line.role, text_of(parts))


def _said(line: Line) -> str:
    """The text of a line as it is sent: where there are parts, they are."""
    return text_of(line.parts) if line.parts else line.content


def _seen(line: Line) -> int:
    """The tokens of a line's images."""
    return sum(map(image_tokens, images_of(line.parts))) if line.parts else 0
