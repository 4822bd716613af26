"""What a conversation is called: a line made of its first question, or what a model proposes, tidied."""

import re
from collections.abc import Sequence
from unicodedata import category

from service.domain.history import Line

LONGEST = 60
# A first sentence that says so little is no title.
SHORTEST = 10
LOOKED_AT = 4000

_FENCED = re.compile(r"^ {0,3}(```|~~~)[^\n]*\n(.*?)(?:^ {0,3}\1[^\n]*$|\Z)", re.MULTILINE | re.DOTALL)
_THOUGHT = re.compile(r"<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)", re.DOTALL | re.IGNORECASE)
# Headings, quotes, list marks and numbers at the start of a line; rules between paragraphs.
_MARK = re.compile(r"^[ \t]*(?:(?:#{1,6}|>|[-*+•]|\d{1,3}[.)])[ \t]+)+|^[ \t]*(?:[-*_=][ \t]*){3,}$", re.MULTILINE)
_LINK = re.compile(r"!?\[([^\]\n]{0,300})\]\([^)\s]{1,2000}(?: \"[^\"\n]{0,300}\")?\)")
_ADDRESS = re.compile(r"\b(?:https?://|www\.)([^\s<>\"]+)", re.IGNORECASE)
_EMPHASIS = re.compile(r"(\*\*|__|~~|`+)(?=\S)(.{1,300}?)(?<=\S)\1")
# What turns the direction of whatever follows it, and what is not seen.
_UNSEEN = re.compile(
    "[\u0000-\u0008\u000e-\u001f\u007f-\u009f\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff\ufffd]+"
)
_GREETINGS = (
    "hi|hello|hey|hiya|good (?:morning|afternoon|evening|day)|greetings|hallo|guten (?:morgen|tag|abend)|servus|moin"
    "|bonjour|bonsoir|salut|hola|buen(?:os d[ií]as|as tardes|as noches)|ol[áa]|bom dia|boa tarde|ciao|buongiorno|hej"
    "|cześć|dzień dobry|привет|здравствуйте|добрый день|مرحبا|السلام عليكم|שלום|你好|您好|こんにちは|안녕하세요"
)
_GREETING = re.compile(
    rf"^(?:{_GREETINGS})(?:[ ,]+(?:there|all|everyone|again|chatgpt|claude|zusammen|à tous))?(?:[\s,.!…،。！，:–-]+|$)",
    re.IGNORECASE,
)
_SENTENCE = re.compile(r"[.!?…]+[\"'”»)]*(?= |$)|[。！？]")
_LABEL = re.compile(r"^(?:title|titel|titre|título|titolo)\s*[:：]\s*", re.IGNORECASE)
_QUOTES = " \t\"'`“”„‟«»‹›「」『』*_#"


def title_key(title: str | None) -> str:
    """What titles are sorted and searched by."""
    return (title or "").casefold()[:600]


def title_of(lines: Sequence[Line]) -> str | None:
    """The first question on one line; None where there is nothing to name it by.

    Greetings, code and marks are left out where something else is there; an address becomes its host. A longer text is
    its first sentence, or is cut at a word, and never within what is seen as one character.
    """
    for line in lines:
        if line.role == "user" and (title := _shorten(_plain(line.content[:LOOKED_AT]))):
            return title
    return None


def tidy(proposed: str) -> str | None:
    """The title that a model proposes, without what models put around one; None where nothing is left."""
    text = _UNSEEN.sub("", _THOUGHT.sub("", proposed[:LOOKED_AT]))
    first = next((line for line in text.splitlines() if line.strip(_QUOTES)), "")
    title = _LABEL.sub("", " ".join(first.split()).strip(_QUOTES)).strip(_QUOTES)
    title = title[:-1] if title.endswith((".", "。")) and not title.endswith("..") else title
    return _cut(title, LONGEST) or None


def _plain(text: str) -> str:
    """One line without marks, greetings and code, or with them where there is nothing else."""
    text = _UNSEEN.sub("", text)
    told = _FENCED.sub("\n", text)
    if not told.strip():
        told = "\n".join(inside for _, inside in _FENCED.findall(text)) or text
    told = _MARK.sub(" ", told)
    told = _LINK.sub(r"\1", told)
    alone = _ADDRESS.fullmatch(told.strip())
    told = _ADDRESS.sub(lambda found: (_path if alone else _host)(found[1]), told)
    words = " ".join(_EMPHASIS.sub(r"\2", told).split())
    return _ungreeted(words)


def _host(address: str) -> str:
    """The address' host, and the full stop or comma behind it."""
    host = re.split(r"[/?#]", address, maxsplit=1)[0]
    tail = address[-1] if address[-1] in ".,!?;:)" and host != address else ""
    return host.rpartition("@")[2].removeprefix("www.") + tail


def _path(address: str) -> str:
    return _host(address) + address[len(re.split(r"[/?#]", address, maxsplit=1)[0]) :].partition("?")[0].rstrip("/")


def _ungreeted(words: str) -> str:
    rest = words
    for _ in range(2):
        rest = _GREETING.sub("", rest, count=1)
    if not any(letter.isalnum() for letter in rest):
        return words
    return rest if rest == words else rest[0].upper() + rest[1:]


def _shorten(words: str) -> str:
    if len(words) <= LONGEST:
        return words
    ends = [found.end() for found in _SENTENCE.finditer(words, 0, LONGEST + 1)]
    first = next((end for end in ends if SHORTEST <= end <= LONGEST), None)
    if first:
        return words[:first].rstrip(".。")
    return _cut(words, LONGEST)


def _cut(words: str, most: int) -> str:
    """At most so many characters and an ellipsis; at a space, or where there is none between two graphemes."""
    if len(words) <= most:
        return words
    end = most
    while end > most // 2 and _joined(words, end):
        end -= 1
    space = words.rfind(" ", most // 2, end + 1)
    return words[: space if space > 0 else end].rstrip(" ,;:–-") + "…"


def _joined(text: str, index: int) -> bool:
    """Whether two characters belong together as one that is seen: marks, joiners, skin tones, flags (after UAX #29)."""
    before, after = text[index - 1], text[index]
    if (
        category(after).startswith("M")
        or after == "\u200d"
        or before == "\u200d"
        or "\U0001f3fb" <= after <= "\U0001f3ff"
    ):
        return True
    if not (_is_flag(before) and _is_flag(after)):
        return False
    start = index
    while start and _is_flag(text[start - 1]):
        start -= 1
    return (index - start) % 2 == 1


def _is_flag(letter: str) -> bool:
    return "\U0001f1e6" <= letter <= "\U0001f1ff"
