"""The part of a conversation that fits a model's window."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

# Where a provider gives no count: four bytes of UTF-8 a token and four tokens a message (OpenAI's rule of thumb).
BYTES_PER_TOKEN = 4
TOKENS_PER_MESSAGE = 4
# What is kept free for an answer whose length nobody bounds, and how far back a conversation is read at all.
ANSWER_TOKENS = 1024
MOST_MESSAGES = 1000


@dataclass(frozen=True, slots=True)
class Line:
    """One message of a prompt."""

    role: str
    content: str


def estimate_tokens(text: str) -> int:
    """About how many tokens a text is, rounded up."""
    return -(-len(text.encode()) // BYTES_PER_TOKEN)


def estimate_prompt(lines: Sequence[Line]) -> int:
    return sum(estimate_tokens(line.content) + TOKENS_PER_MESSAGE for line in lines)


def window_for(context: int | None, answer: int | None) -> int | None:
    """The tokens that a prompt may have in a context that the answer has to fit into as well."""
    return None if context is None else max(1, context - (answer or ANSWER_TOKENS))


def assemble(spoken: Iterable[Line], system_prompt: str | None) -> list[Line]:
    """A conversation as a model reads it: its system prompt first, without messages that never got any text."""
    lines = [line for line in spoken if line.content]
    return [Line("system", system_prompt), *lines] if system_prompt else lines


def fit(lines: Sequence[Line], window: int | None) -> tuple[list[Line], int]:
    """The newest lines that fit into `window` tokens and how many were left out.

    System lines and the last line always stay. None is a window without an end.
    """
    if window is None or sum(len(line.content) for line in lines) + TOKENS_PER_MESSAGE * len(lines) <= window:
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
