"""Reads docs/api-contract.md: the calls of its tables, and what each row says that can be looked for."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs/api-contract.md"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
# Parameters whose values hold slashes.
GREEDY = {"model_id", "path"}

_CELL = re.compile(r"(?<!\\)\|")
_CODE = re.compile(r"`([^`]*)`")
_STATUS = re.compile(r"\b[2-5]\d\d\b")
_HEADER = re.compile(r"`((?:[A-Z][A-Za-z]*-)+[A-Z][A-Za-z]*|ETag|Link)`")
_TYPE = re.compile(r"`((?:text|application)/[a-z.+-]+)`")
_NEVER = re.compile(r"never an? (\d{3})|(\d{3}) is never")


@dataclass(frozen=True, slots=True)
class Call:
    """A method and the template of its path."""

    method: str
    path: str

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    def fits(self, method: str, path: str) -> bool:
        """Whether a request is this call."""
        pattern = re.sub(r"\\{(\w+)\\}", lambda m: ".+" if m[1] in GREEDY else "[^/]+", re.escape(self.path))
        return method == self.method and re.fullmatch(pattern, path) is not None

    @property
    def literals(self) -> int:
        """How specific it is: the characters of its path that are no parameters."""
        return len(re.sub(r"\{\w+\}", "", self.path))


@dataclass(frozen=True, slots=True)
class Parameter:
    """A query parameter: `a=1` is a default, `a=1|2` are choices, `a=1&a=2` is given more than once."""

    default: str | None = None
    choices: tuple[str, ...] = ()
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table: its calls and all that its words promise of them together.

    `fields` are the names within braces, of bodies or answers, with a default where one is written. `never` are the
    statuses that must not come.
    """

    section: str
    text: str
    calls: tuple[Call, ...]
    parameters: dict[str, Parameter]
    fields: dict[str, str | None]
    statuses: frozenset[int]
    never: frozenset[int]
    headers: frozenset[str]
    types: frozenset[str]
    admin_only: bool


def read_rows(text: str) -> list[Row]:
    """The rows of all tables with the columns call and answer."""
    rows: list[Row] = []
    for section, body in _sections(text):
        for line in body.splitlines():
            cells = [cell.strip().replace("\\|", "|") for cell in _CELL.split(line)[1:-1]]
            if len(cells) == 2 and cells[0] != "call" and not set(cells[0]) <= set("-: "):
                rows.append(_row(section, cells[0], cells[1]))
    return rows


def _sections(text: str) -> Iterator[tuple[str, str]]:
    for part in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        title, _, body = part.partition("\n")
        yield title.strip(), body


def _row(section: str, call: str, answer: str) -> Row:
    calls, parameters = _calls(call)
    for code in _CODE.findall(answer):
        if code.startswith("?"):
            parameters |= _query(code)
    # Within code a number is a default or an example.
    plain = _CODE.sub("", answer)
    never = frozenset(int(status) for found in _NEVER.findall(plain) for status in found if status)
    return Row(
        section=section,
        text=f"{call} → {answer}",
        calls=tuple(calls),
        parameters=parameters,
        fields=_fields([*_CODE.findall(call), *_CODE.findall(answer)]),
        statuses=frozenset(map(int, _STATUS.findall(plain))) - never,
        never=never,
        headers=frozenset(_HEADER.findall(answer)),
        types=frozenset(_TYPE.findall(answer)),
        admin_only=re.match(r"admin\b", answer) is not None,
    )


def _calls(cell: str) -> tuple[list[Call], dict[str, Parameter]]:
    """`GET /a`, `POST …/b` and `?c=&d`: the methods go on to the paths that follow, `…` is the path before."""
    calls: list[Call] = []
    parameters: dict[str, Parameter] = {}
    methods: list[str] = []
    fresh = True
    for code in _CODE.findall(cell):
        words = re.sub(r"\s*\{[^/}]*[ ,][^}]*\}$", "", code).split()
        for word in words:
            if word in METHODS:
                methods = [word] if fresh else [*methods, word]
                fresh = False
            elif word.startswith(("/", "…")):
                path, _, query = word.partition("?")
                path = _whole(path, calls)
                calls += [Call(method, path) for method in methods]
                parameters |= _query(f"?{query}") if query else {}
                fresh = True
            elif word.startswith("?"):
                parameters |= _query(word)
            else:
                raise ValueError(f"not understood in the call {cell!r}: {word!r}")
    return calls, parameters


def _whole(path: str, before: list[Call]) -> str:
    """`…/keys/{key_id}` after `/users/{user_id}/keys`, or `…/fork` after `/conversations/{id}/regenerate`."""
    if not path.startswith("…"):
        return path
    last, rest = before[-1].path, path[1:]
    first = "/" + rest.split("/")[1]
    base = last[: last.index(first)] if f"{first}/" in f"{last}/" else last.rpartition("/")[0]
    return base + rest


def _query(code: str) -> dict[str, Parameter]:
    """`?a=1|2&b&c=(admin)&…` as the parameters that it names."""
    found: dict[str, Parameter] = {}
    for part in code[1:].split("&"):
        name, _, value = part.rstrip("…").partition("=")
        if not name:
            continue
        values = tuple(one for one in re.sub(r"\(.*?\)|<.*?>|…", "", value).split("|") if one)
        if name in found:
            found[name] = Parameter(repeated=True)
        elif len(values) > 1:
            found[name] = Parameter(choices=values)
        else:
            found[name] = Parameter(default=values[0] if values else None)
    return found


def _fields(codes: list[str]) -> dict[str, str | None]:
    """The names within `{…}`, but not those of paths; `name=value` gives a default."""
    found: dict[str, str | None] = {}
    for code in codes:
        for brace in re.findall(r"(?<![/\w])\{.*\}", code):
            said = re.sub(r'<.*?>|\([^)]*\)|:\s*"[^"]*"|:\s*<[^>]*>', "", brace)
            for name, default in re.findall(r'"?\b([a-z_]+)\b"?(?:=([\w.]+))?', said):
                found[name] = found.get(name) or default or None
    return found
