"""Byte ranges of an answer, after RFC 9110, section 14."""

import re
from collections.abc import Iterable

MOST_RANGES = 16
_SPEC = re.compile(r"\s*(\d{0,19})\s*-\s*(\d{0,19})\s*", re.ASCII)

Span = tuple[int, int]


def parse_range(header: str, size: int) -> list[Span] | None:
    """The stretches (start, end) of `size` bytes that a Range header asks for: in order, joined where they touch.

    None where the header is to be ignored: another unit, no valid ranges, or more of them than anybody needs.
    An empty list where none of them lies within.
    """
    unit, equals, text = header.partition("=")
    specs = [spec for spec in text.split(",") if spec.strip()]
    if unit.strip().lower() != "bytes" or not equals or not 1 <= len(specs) <= MOST_RANGES:
        return None
    spans: list[Span] = []
    for spec in specs:
        found = _SPEC.fullmatch(spec)
        if found is None:
            return None
        first, last = found.groups()
        if not (first or last) or (first and last and int(first) > int(last)):
            return None
        spans.append(_span(first, last, size))
    return join(span for span in spans if span[0] < span[1])


def join(spans: Iterable[Span]) -> list[Span]:
    """The same bytes in as few stretches as there can be."""
    joined: list[Span] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


def _span(first: str, last: str, size: int) -> Span:
    if not first:
        return max(0, size - int(last)), size
    return int(first), min(size, int(last) + 1) if last else size
