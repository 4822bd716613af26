"""The language of search, and how matches are ranked: plain words, "phrases", and -what must not be there.

Every text is a query: what is neither a word nor a quote nor a minus before one of these says nothing.
"""

import re
from dataclasses import dataclass

from service.domain.words import fold

MOST_WORDS = 32
# Of a message so many characters of its words are ranked by.
RANKED_TEXT = 4_000

_QUOTES = str.maketrans(dict.fromkeys("“”„‟«»＂", '"'))
_PART = re.compile(r'(-?)(?:"([^"]*)"?|([^\s"]+))')
# BM25's constants: how soon more of the same stops counting, and how much a message's length counts against it.
_SATURATION, _LENGTH, _USUAL = 1.2, 0.75, 600


@dataclass(frozen=True, slots=True)
class Query:
    """What must be in a message and what must not: words, and phrases as words with a space between two."""

    wanted: tuple[str, ...] = ()
    unwanted: tuple[str, ...] = ()

    @property
    def words(self) -> tuple[str, ...]:
        """The single words that a message must have, those of phrases too."""
        return tuple(dict.fromkeys(" ".join(self.wanted).split(" "))) if self.wanted else ()

    @property
    def barred(self) -> tuple[str, ...]:
        """The single words that it must not have."""
        return tuple(one for one in self.unwanted if " " not in one)

    @property
    def phrases(self) -> tuple[str, ...]:
        return tuple(one for one in self.wanted if " " in one)

    @property
    def barred_phrases(self) -> tuple[str, ...]:
        return tuple(one for one in self.unwanted if " " in one)


def parse(text: str) -> Query:
    """The query that a text means. Any text is one; of many words the first 32 are taken.

    A part that is written together, such as `foo-bar`, `don't` or a run of Chinese, is a phrase.
    """
    wanted: dict[str, None] = {}
    unwanted: dict[str, None] = {}
    left = MOST_WORDS
    for minus, phrase, word in _PART.findall(text.translate(_QUOTES)):
        words = fold(phrase or word).split()[:left]
        if words:
            left -= len(words)
            (unwanted if minus else wanted)[" ".join(words)] = None
    return Query(tuple(wanted), tuple(unwanted))


def score(query: Query, words: str) -> float:
    """How well a message's folded words answer a query that they match: from 0 to 1, by BM25 without its rarity.

    Every match has all that is asked, so rarity would weigh all alike. In the order asked and side by side: half more.
    """
    spaced = _apart(words)
    damp = _SATURATION * (1 - _LENGTH + _LENGTH * len(words) / _USUAL)
    total = 0.0
    for one in query.wanted:
        often = max(1, spaced.count(_apart(one)))
        total += often / (often + damp)
    total /= max(1, len(query.wanted))
    together = len(query.wanted) > 1 and _apart(" ".join(query.wanted)) in spaced
    return round(total * (1 if together else 2 / 3), 4)


def _apart(words: str) -> str:
    """The words with two spaces between any two, so that neighbours do not share one: `count` counts both."""
    return f" {words.replace(' ', '  ')} "
