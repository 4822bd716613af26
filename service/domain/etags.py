"""Entity tags and the conditions that name them, after RFC 9110, sections 8.8.3 and 13."""

import re
from dataclasses import dataclass

_TAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')


@dataclass(frozen=True, slots=True)
class Tags:
    """What If-Match or If-None-Match lists. `any` is the `*`: whatever is there."""

    any: bool
    listed: frozenset[str] = frozenset()

    def match(self, tag: str | None, *, weak: bool = False) -> bool:
        """Whether they name what is there, whose strong tag is given, or None where nothing is.

        Strong comparison, or weak, under which `W/"a"` is `"a"`.
        """
        if tag is None:
            return False
        return self.any or tag in self.listed or (weak and f"W/{tag}" in self.listed)


@dataclass(frozen=True, slots=True)
class Conditions:
    """Under which a request is to be carried out; None is no condition."""

    match: Tags | None = None
    none_match: Tags | None = None

    def allow_write(self, tag: str | None) -> bool:
        """Whether what is there now, or that nothing is, may be changed."""
        if self.match is not None and not self.match.match(tag):
            return False
        return self.none_match is None or not self.none_match.match(tag, weak=True)


def quote(sha256: str) -> str:
    """The strong entity tag of a content."""
    return f'"{sha256}"'


def parse_tags(header: str) -> Tags:
    """Raises ValueError for what is no list of entity tags."""
    if header.strip() == "*":
        return Tags(True)
    if _TAG.sub("", header).strip(" \t,"):
        raise ValueError("not a list of entity tags")
    return Tags(False, frozenset(_TAG.findall(header)))
