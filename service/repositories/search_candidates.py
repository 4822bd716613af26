"""What both search indexes give, and what they ask beside single words, in SQL that both databases read alike."""

from typing import Any, NamedTuple

from service.domain.filters import SearchFilter

# Where a message stands among its owner's, as numbers; only the index that gave it can read it.
Place = tuple[int, ...]

PROVIDER = """EXISTS (
    SELECT 1 FROM messages AS m JOIN completions AS c ON c.user_id = m.user_id AND c.id = m.completion_id
    WHERE m.user_id = d.user_id AND m.id = d.message_id AND c.provider = :provider)"""


class Candidate(NamedTuple):
    """A message that matches, and the beginning of its words."""

    message_id: int
    place: Place
    words: str


class Look(NamedTuple):
    """What a look into an index gave: matches, newest first, of how many that were seen, and the last one's place."""

    matches: list[Candidate]
    seen: int
    last: Place | None


def decisions(chosen: SearchFilter, position: str) -> tuple[str, dict[str, Any]]:
    """A condition on a document `d` by its words and its message, and its values; "" where the index decides alone.

    `position` is the function that finds a text in another: strpos or instr.
    """
    conditions, values = [], {}
    parts = [(one, "> 0") for one in chosen.query.phrases] + [(one, "= 0") for one in chosen.query.barred_phrases]
    for number, (phrase, compared) in enumerate(parts):
        conditions.append(f"{position}(' ' || d.words || ' ', :phrase{number}) {compared}")
        values[f"phrase{number}"] = f" {phrase} "
    if chosen.provider is not None:
        conditions.append(PROVIDER)
        values["provider"] = chosen.provider
    return " AND ".join(conditions), values


def marks(chosen: SearchFilter) -> list[str]:
    """The marks that a message must have: its owner's, and those of the filters."""
    found = [f"u_{chosen.user_id}"]
    if chosen.conversation_id is not None:
        found.append(f"c_{chosen.conversation_id}")
    # Only answers have a provider.
    if role := chosen.role or (chosen.provider and "assistant"):
        found.append(f"r_{role}")
    return found
