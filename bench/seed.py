"""A large history, made inside the database: one user with much of it, one very deep conversation, other users."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from bench.databases import execute, is_postgres, number, word

BASE = 1_000_000_000  # ids from here on, far from those that the service hands out
LENGTH, OTHERS = 50, 20
OTHER = "bench-7"  # the name of one of the others
_EPOCH = 1_700_000_000
# How many different words each place after the prose chooses among: a few words are everywhere, most are rare.
_VOCABULARIES = (50, 50, 200, 200, 1_000, 1_000, 5_000, 5_000, 20_000, 20_000, 50_000, 50_000)
_WORDS = "".join(
    f" || ' w' || ((CAST(i AS BIGINT) * {7_919 + 104_729 * at} + {at}) % {size})"
    for at, size in enumerate(_VOCABULARIES)
)
_CONTENT = (
    "'Message ' || i || ': what a chat is full of, a few lines of plain prose that somebody once typed or a model once"
    " wrote, of the length that is usual, neither a word nor a book.'"
    " || ' half' || (i % 2) || ' tenth' || (i % 10) || ' percent' || (i % 100) || ' mille' || (i % 1000)"
    f" || ' myria' || (i % 10000) || ' number' || i{_WORDS}"
)


@dataclass(frozen=True, slots=True)
class History:
    """What was made. Counts of messages; `mine` includes `deep`, and `deep` is one conversation without a branch."""

    messages: int
    mine: int
    deep: int
    conversations: int
    completions: int
    deep_id: int


@dataclass(frozen=True, slots=True)
class _Section:
    """Messages first … last - 1, in conversations of `length`, owned by the SQL expression `owner`."""

    first: int
    last: int
    length: int
    owner: str

    @property
    def root(self) -> str:
        return f"({self.first} + (i - {self.first}) / {self.length} * {self.length})"

    @property
    def depth(self) -> str:
        return f"((i - {self.first}) % {self.length})"


def moment(number: int) -> str:
    """When the message of this number was made, as the API takes it."""
    return datetime.fromtimestamp(_EPOCH + number, UTC).isoformat()


def seed(url: str, messages: int, *, searchable: bool) -> History:
    """Fills a migrated database that has one user, the bench's own: six tenths are theirs, one tenth in one talk.

    `searchable`: with their words in the search index, which takes several times as long.
    """
    user = number(url, "SELECT min(id) FROM users")
    whole = max(messages // (10 * LENGTH), 1) * LENGTH
    deep, mine, total = whole, 6 * whole, 10 * whole
    sections = (
        _Section(0, deep, deep, str(user)),
        _Section(deep, mine, LENGTH, str(user)),
        _Section(mine, total, LENGTH, f"({BASE} + (i - {mine}) / {LENGTH} % {OTHERS})"),
    )
    documents = _postgres_documents(url) if is_postgres(url) else ()
    execute(url, [] if searchable or is_postgres(url) else ["DROP TRIGGER search_insert"])
    execute(url, list(_statements(sections, at=_instant(url), postgres=is_postgres(url))))
    execute(url, documents if searchable else ())
    execute(url, ["VACUUM ANALYZE" if is_postgres(url) else "ANALYZE"])
    talks = 1 + (mine - deep) // LENGTH
    return History(total, mine, deep, talks, mine // 2, BASE)


def _statements(sections: tuple[_Section, ...], *, at: str, postgres: bool) -> Iterator[str]:
    if postgres:
        # Foreign keys and triggers are not asked for each of the rows, which are right by their making.
        yield "SET session_replication_role = replica"
    yield "BEGIN"
    yield _insert("users (id, username, username_key)", f"{BASE} + i, 'bench-' || i, 'bench-' || i", _count(0, OTHERS))
    for section in sections:
        yield _conversations(section, at)
        yield _messages(section, at)
    for section in sections[:2]:
        yield _completions(section, at)
    yield "COMMIT"


def _postgres_documents(url: str) -> tuple[str, ...]:
    """What the triggers, which were not asked, would have written; into the index all together, as that is quicker."""
    index = word(url, "SELECT indexdef FROM pg_indexes WHERE indexname = 'ix_search_documents_terms'")
    return (
        "DROP INDEX ix_search_documents_terms",
        "INSERT INTO search_documents (user_id, message_id, conversation_id, role, created_at, words)"
        " SELECT user_id, id, conversation_id, role, created_at, search_words(content) FROM messages",
        "SET maintenance_work_mem = '512MB'",
        index,
    )


def _conversations(section: _Section, at: str) -> str:
    columns = "user_id, id, title, title_key, model, active_leaf_id, message_count, created_at, updated_at, active_at"
    end = section.length - 1
    values = (
        f"{section.owner}, {BASE} + i, 'Talk ' || i, 'talk ' || i, 'canned-64', {BASE} + i + {end}, {section.length},"
        f" {at.format('i')}, {at.format('i')}, {at.format(f'(i + {end})')}"
    )
    return _insert(f"conversations ({columns})", values, _count(section.first, section.last, section.length))


def _messages(section: _Section, at: str) -> str:
    columns = (
        "user_id, id, conversation_id, parent_id, line_id, depth, role, content, status, model, completion_id,"
        " created_at"
    )
    answer = f"{section.depth} % 2 = 1"
    values = (
        f"{section.owner}, {BASE} + i, {BASE} + {section.root},"
        f" CASE WHEN {section.depth} > 0 THEN {BASE} + i - 1 END, {BASE} + {section.root}, {section.depth},"
        f" CASE WHEN {answer} THEN 'assistant' ELSE 'user' END, {_CONTENT}, 'completed',"
        f" CASE WHEN {answer} THEN 'canned-64' END, CASE WHEN {answer} THEN {BASE} + i END, {at.format('i')}"
    )
    return _insert(f"messages ({columns})", values, _count(section.first, section.last))


def _completions(section: _Section, at: str) -> str:
    columns = (
        "user_id, id, conversation_id, message_id, model, provider, temperature, max_tokens, status, finish_reason,"
        " input_tokens, cache_read_tokens, cache_write_tokens, output_tokens, reasoning_tokens, cost_nano,"
        " first_token_ms, duration_ms, created_at, finished_at"
    )
    values = (
        f"{section.owner}, {BASE} + i, {BASE} + {section.root}, {BASE} + i, 'canned-64', 'canned', 0.7, 1000,"
        f" 'completed', 'stop', 24, 0, 0, 64, 0, 152000, 12, 340, {at.format('i')}, {at.format('i')}"
    )
    return _insert(f"completions ({columns})", values, _count(section.first + 1, section.last, 2))


def _insert(into: str, values: str, numbers: str) -> str:
    return f"{numbers} INSERT INTO {into} SELECT {values} FROM numbers"


def _count(first: int, last: int, step: int = 1) -> str:
    """A WITH clause of the numbers first, first + step … below last, alike on both databases."""
    going = f"SELECT i + {step} FROM numbers WHERE i + {step} < {last}"
    return f"WITH RECURSIVE numbers (i) AS (SELECT {first} UNION ALL {going})"


def _instant(url: str) -> str:
    """How a moment is written, a second for each number: see service/db/types.py."""
    if is_postgres(url):
        return f"to_timestamp({_EPOCH} + {{}})"
    return f"({_EPOCH} + {{}}) * 1000000"
