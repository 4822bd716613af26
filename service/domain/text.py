"""Text from outside made safe to store and to send: no NUL and no lone surrogate."""

import re

REPLACEMENT = "\ufffd"
_UNSAFE = re.compile("[\x00\ud800-\udfff]")
_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")


def clean(text: str) -> str:
    """The same text with NUL and lone surrogates replaced by U+FFFD; a surrogate pair becomes its character."""
    if "\x00" not in text:
        if text.isascii():
            return text
        try:
            text.encode()
        except UnicodeEncodeError:
            pass
        else:
            return text
    return _UNSAFE.sub(REPLACEMENT, _PAIR.sub(_join, text))


class Cleaner:
    """Cleans a text that comes in pieces: a surrogate pair may be split over two of them."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = ""

    def feed(self, text: str) -> str:
        """What can be said now; a high surrogate at the end waits for the next piece."""
        if self._held:
            text, self._held = self._held + text, ""
        if text and "\ud800" <= text[-1] <= "\udbff":
            text, self._held = text[:-1], text[-1]
        return clean(text)

    def finish(self) -> str:
        """What still waits when no more comes."""
        held, self._held = self._held, ""
        return clean(held)


def _join(pair: re.Match[str]) -> str:
    return pair[0].encode("utf-16", "surrogatepass").decode("utf-16")
