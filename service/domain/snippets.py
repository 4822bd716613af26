"""The passage of a message that shows why it was found, as HTML in which nothing but <mark> is a tag."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from service.domain.search import Query
from service.domain.words import BETWEEN, LONGEST_TEXT, LONGEST_WORD, SINGLE, fold

LENGTH, LEAD = 240, 60
MOST_HITS = 200
# So many characters of a page's messages are looked through by the slow way.
PATIENCE = 300_000

_TOKEN = re.compile(rf"[{SINGLE}]|[^\x00{SINGLE}{BETWEEN}]+")
_SPACE = re.compile(r"\s+")

Span = tuple[int, int, int]  # where it starts and ends, and which of the wanted it is


@dataclass(slots=True)
class Snippets:
    """Makes the snippets of one page's messages."""

    query: Query
    patience: int = PATIENCE

    def make(self, content: str) -> str:
        """At most 240 characters around the passage that has most of what was asked, with `<mark>` around each match.

        The text is escaped, so it may go into a page as it is: `<b>` in a message is `&lt;b&gt;` here. Runs of white
        space are one space; an ellipsis stands where text is left out. Without a match it is the message's beginning.
        """
        hits = self._find(content[:LONGEST_TEXT])
        start, end = _passage(content, hits)
        inside = [(max(one[0], start), min(one[1], end)) for one in hits if one[0] < end and one[1] > start]
        pieces, at = ["… " if start else ""], start
        for first, last in _merged(inside):
            pieces += [_plain(content[at:first]), "<mark>", _plain(content[first:last]), "</mark>"]
            at = last
        pieces += [_plain(content[at:end]), " …" if end < len(content) else ""]
        return "".join(pieces).strip()

    def _find(self, text: str) -> list[Span]:
        if text.isascii():
            return _find_ascii(self.query, text)
        if len(text) > self.patience:
            return []
        self.patience -= len(text)
        return _find_any(self.query, text)


def _find_ascii(query: Query, text: str) -> list[Span]:
    """By one regular expression over the whole text."""
    sought = [(number, one) for number, one in enumerate(query.wanted) if one.isascii()]
    if not sought:
        return []
    # The longest first: of a phrase and its first word the phrase is marked.
    sought.sort(key=lambda one: -len(one[1]))
    patterns = ["[^a-z0-9]+".join(map(_word_pattern, one.split(" "))) for _, one in sought]
    pattern = re.compile(f"(?<![a-z0-9])(?:{'|'.join(f'({one})' for one in patterns)})(?![a-z0-9])")
    hits: list[Span] = []
    for found in pattern.finditer(text.lower()):
        hits.append((*found.span(), sought[(found.lastindex or 1) - 1][0]))
        if len(hits) == MOST_HITS:
            break
    return hits


def _word_pattern(word: str) -> str:
    return word + "[a-z0-9]*" if len(word) == LONGEST_WORD else word


def _find_any(query: Query, text: str) -> list[Span]:
    """Word by word: folding changes lengths, so places in the folded text say nothing."""
    known: dict[str, list[str]] = {}
    words: list[str] = []
    spans: list[tuple[int, int]] = []
    for token in _TOKEN.finditer(text):
        raw = token[0]
        folded = known.get(raw)
        if folded is None:
            folded = known[raw] = fold(raw).split()
        words += folded
        spans += [token.span()] * len(folded)
    sought: dict[str, list[tuple[int, list[str]]]] = {}
    for number, one in enumerate(query.wanted):
        parts = one.split(" ")
        sought.setdefault(parts[0], []).append((number, parts))
    hits: list[Span] = []
    for at, word in enumerate(words):
        for number, parts in sought.get(word, ()):
            if words[at : at + len(parts)] == parts:
                hits.append((spans[at][0], spans[at + len(parts) - 1][1], number))
        if len(hits) >= MOST_HITS:
            break
    return hits


def _passage(text: str, hits: Sequence[Span]) -> tuple[int, int]:
    """Where the passage with most different hits begins and ends."""
    start = 0
    if hits:
        reach = LENGTH - LEAD
        best = max(hits, key=lambda one: (len({h[2] for h in hits if one[0] <= h[0] < one[0] + reach}), -one[0]))
        start = max(0, min(best[0] - LEAD, len(text) - LENGTH))
    if start:
        # At the beginning of a word, if there is one before the hit.
        space = _SPACE.search(text, start, best[0])
        start = space.end() if space else start
    end = min(len(text), start + LENGTH)
    if end < len(text):
        cut = max(text.rfind(" ", start + LENGTH // 2, end), text.rfind("\n", start + LENGTH // 2, end))
        end = cut if cut > 0 else end
    return start, end


def _merged(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same stretches without overlaps, in order."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _plain(text: str) -> str:
    return escape(_SPACE.sub(" ", text))
