"""A conversation's first title: the start of its first question."""

from collections.abc import Sequence

from service.domain.history import Line

LONGEST = 60


def title_key(title: str | None) -> str:
    """What titles are sorted and searched by."""
    return (title or "").casefold()[:600]


def title_of(lines: Sequence[Line]) -> str | None:
    """The first user message on one line, cut at a word; None where there is nothing to name it by."""
    asked = next((line.content for line in lines if line.role == "user"), "")
    words = " ".join(asked[: LONGEST * 8].split())
    if len(words) <= LONGEST:
        return words or None
    cut = words[:LONGEST].rsplit(" ", 1)[0]
    return f"{cut}…"
