"""The search index: the words of each message, kept by triggers in the transaction that writes the message.

`search_documents` holds a message's words, folded (service/domain/words.py), and the index finds them: GIN on Postgres,
FTS5 on SQLite. Beside the words it holds marks, which no text can contain since a word has no underscore: the owner
(u_7), the conversation (c_9), the role (r_user) and, on Postgres, blocks of time (t10_1684570: so many times 2^10
seconds since 1970). They make one shared index answer for one owner, newest first, without reading anybody else's.

These tables are no part of the metadata: what they are made of differs between the databases. Messages that are there
already are added by service/db/backfill.py after this migration, a batch at a time; nothing here takes or locks long.
"""

from collections.abc import Sequence

from alembic import op
from sqlalchemy import Connection

revision: str = "2026_11_25_search"
down_revision: str | None = "2026_11_25_ledger"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

# As in service/domain/words.py when this was written. Other rules take a migration that makes search_words anew and
# fills search_documents again.
STRIPPED = (
    r"\u00AD\u0300-\u036F\u0483-\u0489\u0591-\u05BD\u05BF\u05C1\u05C2\u05C4\u05C5\u05C7\u0610-\u061A\u0640\u064B-\u065F"
    r"\u0670\u06D6-\u06DC\u06DF-\u06E4\u06E7\u06E8\u06EA-\u06ED\u1AB0-\u1AFF\u1DC0-\u1DFF\u200C-\u200F\u202A-\u202E"
    r"\u2060-\u206F\u20D0-\u20FF\uFE00-\uFE0F\uFEFF\U000E0000-\U000E0FFF"
)
SINGLE = (
    r"\u0E01-\u0E3A\u0E40-\u0E4E\u0E81-\u0EDF\u1000-\u1049\u1050-\u109F\u1780-\u17D3\u2600-\u27BF\u3005-\u3007"
    r"\u3041-\u309F\u30A1-\u30FA\u30FC-\u31BF\u31F0-\u31FF\u3400-\u4DBF\u4E00-\u9FFF\uA960-\uA97F\uAC00-\uD7FF"
    r"\uF900-\uFAFF\U0001F300-\U0001FAFF\U00020000-\U0003FFFF"
)
BETWEEN = (
    r"\u0001-/:-@\[-`\{-\u00A9\u00AB-\u00B4\u00B6-\u00B9\u00BB-\u00BF\u00D7\u00F7\u02C2-\u02C5\u02D2-\u02DF\u02E5-\u02EB"
    r"\u02ED\u02EF-\u02FF\u0375\u037E\u0387\u03F6\u0482\u055A-\u055F\u0589-\u058F\u05BE\u05C0\u05C3\u05C6\u05F3\u05F4"
    r"\u0600-\u060F\u061B-\u061F\u066A-\u066D\u06D4\u06DD\u06DE\u06E9\u06FD\u06FE\u0700-\u070F\u07F6-\u07F9\u0830-\u083E"
    r"\u0964\u0965\u0970\u09F2\u09F3\u0AF0\u0AF1\u0BF3-\u0BFA\u0DF4\u0E3F\u0E4F\u0E5A\u0E5B\u0F01-\u0F17\u0F1A-\u0F1F"
    r"\u0F34-\u0F3D\u0F85\u0FBE-\u0FDA\u104A-\u104F\u10FB\u1360-\u1368\u1390-\u1399\u1400\u166D\u166E\u1680\u169B\u169C"
    r"\u16EB-\u16ED\u1735\u1736\u17D4-\u17DB\u1800-\u180E\u1940-\u1945\u19DE-\u19FF\u2000-\u200B\u2010-\u2029"
    r"\u202F-\u205F\u207A-\u207E\u208A-\u208E\u20A0-\u20CF\u2100-\u2101\u2104-\u2106\u2108-\u2109\u2114\u2117\u2118"
    r"\u211E-\u2125\u2127\u2129\u212E\u213A\u213B\u2140-\u2144\u214A-\u214D\u214F\u218A-\u25FF\u27C0-\u2BFF"
    r"\u2CE5-\u2CEA\u2CF9-\u2CFF\u2E00-\u2E7F\u2E80-\u2FFF\u3000-\u3004\u3008-\u3020\u3030\u303D-\u3040\u30A0\u30FB"
    r"\u31C0-\u31EF\u3200-\u33FF\u4DC0-\u4DFF\uA490-\uA4CF\uA4FE\uA4FF\uA60D-\uA60F\uA673\uA67E\uA6F2-\uA6F7"
    r"\uA700-\uA716\uA720\uA721\uA789\uA78A\uA828-\uA82B\uA836-\uA839\uA874-\uA877\uA8CE\uA8CF\uA8F8-\uA8FA\uA8FC"
    r"\uA92E\uA92F\uA95F\uA9C1-\uA9CD\uA9DE\uA9DF\uAA5C-\uAA5F\uAADE\uAADF\uAAF0\uAAF1\uAB5B\uABEB\uE000-\uF8FF"
    r"\uFD3E-\uFD4F\uFDCF\uFDFC-\uFDFF\uFE10-\uFE6F\uFF01-\uFF0F\uFF1A-\uFF20\uFF3B-\uFF40\uFF5B-\uFF65\uFFE0-\uFFFF"
    r"\U00010100-\U00010102\U0001D000-\U0001D1FF\U0001F000-\U0001F2FF\U000F0000-\U0010FFFF"
)

POSTGRES = (
    f"""
    CREATE FUNCTION search_words(content text) RETURNS text LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $body$
    DECLARE
      plain text := left(content, 100000);
    BEGIN
      IF octet_length(plain) = length(plain) THEN
        plain := regexp_replace(lower(plain COLLATE "C"), '[^a-z0-9]+', ' ', 'g');
      ELSE
        plain := normalize(regexp_replace(normalize(plain, NFKD), '[{STRIPPED}]+', '', 'g'), NFC);
        plain := replace(replace(lower(plain COLLATE "%(collation)s"), 'ß', 'ss'), 'ς', 'σ');
        IF plain ~ '[{SINGLE}]' THEN
          plain := regexp_replace(plain, '([{SINGLE}])', ' \\1 ', 'g');
        END IF;
        plain := regexp_replace(plain, '[{BETWEEN}]+', ' ', 'g');
      END IF;
      IF plain ~ '[^ ]{{65}}' THEN
        plain := regexp_replace(plain, '([^ ]{{64}})[^ ]+', '\\1', 'g');
      END IF;
      RETURN rtrim(left(btrim(plain, ' '), 200000), ' ');
    END
    $body$
    """,
    """
    CREATE TABLE search_documents (
      user_id bigint NOT NULL,
      message_id bigint NOT NULL,
      conversation_id bigint NOT NULL,
      role varchar(16) NOT NULL,
      created_at timestamptz NOT NULL,
      words text NOT NULL,
      CONSTRAINT pk_search_documents PRIMARY KEY (user_id, message_id),
      CONSTRAINT fk_search_documents_message FOREIGN KEY (user_id, message_id)
        REFERENCES messages (user_id, id) ON DELETE CASCADE
    )
    """,
    # Only what Postgres itself brings is called here: a restored dump builds its indexes with an empty search path.
    """
    CREATE FUNCTION search_terms(
      user_id bigint, conversation_id bigint, role text, created_at timestamptz, words text
    ) RETURNS tsvector LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE COST 1000 AS $body$
    DECLARE
      at bigint := floor(extract(epoch FROM created_at AT TIME ZONE 'UTC'));
    BEGIN
      RETURN array_to_tsvector(string_to_array(words, ' ') || ARRAY[
        'u_' || user_id, 'c_' || conversation_id, 'r_' || role, 't10_' || (at >> 10), 't14_' || (at >> 14),
        't18_' || (at >> 18), 't22_' || (at >> 22), 't26_' || (at >> 26)
      ]);
    END
    $body$
    """,
    # New entries wait in a list (kB) and go into the tree together. Every search reads the list, so it is short.
    """
    CREATE INDEX ix_search_documents_terms ON search_documents
    USING gin (search_terms(user_id, conversation_id, role, created_at, words)) WITH (gin_pending_list_limit = 128)
    """,
    # Nobody plans by them, and gathering them means folding many messages.
    "ALTER INDEX ix_search_documents_terms ALTER COLUMN 1 SET STATISTICS 0",
    """
    CREATE FUNCTION search_message() RETURNS trigger LANGUAGE plpgsql AS $body$
    DECLARE
      found text := search_words(NEW.content);
    BEGIN
      IF found = '' THEN
        DELETE FROM search_documents WHERE user_id = NEW.user_id AND message_id = NEW.id;
      ELSE
        INSERT INTO search_documents (user_id, message_id, conversation_id, role, created_at, words)
        VALUES (NEW.user_id, NEW.id, NEW.conversation_id, NEW.role, NEW.created_at, found)
        ON CONFLICT (user_id, message_id) DO UPDATE SET words = excluded.words;
      END IF;
      RETURN NULL;
    END
    $body$
    """,
    """
    CREATE TRIGGER search_insert AFTER INSERT ON messages
    FOR EACH ROW WHEN (NEW.content <> '') EXECUTE FUNCTION search_message()
    """,
    """
    CREATE TRIGGER search_update AFTER UPDATE OF content ON messages
    FOR EACH ROW WHEN (NEW.content IS DISTINCT FROM OLD.content) EXECUTE FUNCTION search_message()
    """,
    "CREATE TABLE search_backfill (user_id bigint NOT NULL, message_id bigint NOT NULL)",
)

# A place is a row's number in the index: its second since 1970 and, below that, a number within the second, so that the
# index by itself gives the newest first. A second that is full goes on behind the newest of all.
SQLITE = (
    """
    CREATE TABLE search_documents (
      place INTEGER PRIMARY KEY,
      user_id INTEGER NOT NULL,
      message_id INTEGER NOT NULL,
      words TEXT NOT NULL,
      marks TEXT NOT NULL,
      UNIQUE (user_id, message_id),
      FOREIGN KEY (user_id, message_id) REFERENCES messages (user_id, id) ON DELETE CASCADE
    )
    """,
    """
    CREATE VIRTUAL TABLE search_index USING fts5(
      words, marks, content = 'search_documents', content_rowid = 'place', detail = 'none', columnsize = 0,
      tokenize = "ascii tokenchars '_'"
    )
    """,
    """
    CREATE TRIGGER search_documents_insert AFTER INSERT ON search_documents BEGIN
      INSERT INTO search_index (rowid, words, marks) VALUES (new.place, new.words, new.marks);
    END
    """,
    """
    CREATE TRIGGER search_documents_delete AFTER DELETE ON search_documents BEGIN
      INSERT INTO search_index (search_index, rowid, words, marks) VALUES ('delete', old.place, old.words, old.marks);
    END
    """,
    # What is inserted here becomes a document. search_words is a function of the connection's: service/db/engine.py.
    "CREATE VIEW search_sources AS SELECT user_id, id, conversation_id, role, created_at, content FROM messages",
    """
    CREATE TRIGGER search_sources_insert INSTEAD OF INSERT ON search_sources BEGIN
      INSERT INTO search_documents (place, user_id, message_id, words, marks)
      SELECT
        coalesce(
          (
            SELECT CASE WHEN place < found.base + 1048575 THEN place + 1
              ELSE (SELECT max(place) + 1 FROM search_documents) END
            FROM search_documents WHERE place BETWEEN found.base AND found.base + 1048575
            ORDER BY place DESC LIMIT 1
          ),
          found.base
        ),
        new.user_id, new.id, found.words,
        'u_' || new.user_id || ' c_' || new.conversation_id || ' r_' || new.role
      FROM (SELECT search_words(new.content) AS words, (new.created_at / 1000000) << 20 AS base LIMIT 1) AS found
      WHERE found.words <> ''
        AND NOT EXISTS (SELECT 1 FROM search_documents WHERE user_id = new.user_id AND message_id = new.id);
    END
    """,
    """
    CREATE TRIGGER search_insert AFTER INSERT ON messages WHEN new.content <> '' BEGIN
      INSERT INTO search_sources
      VALUES (new.user_id, new.id, new.conversation_id, new.role, new.created_at, new.content);
    END
    """,
    """
    CREATE TRIGGER search_update AFTER UPDATE OF content ON messages WHEN new.content IS NOT old.content BEGIN
      DELETE FROM search_documents WHERE user_id = new.user_id AND message_id = new.id;
      INSERT INTO search_sources
      VALUES (new.user_id, new.id, new.conversation_id, new.role, new.created_at, new.content);
    END
    """,
    "CREATE TABLE search_backfill (user_id INTEGER NOT NULL, message_id INTEGER NOT NULL)",
)

# A message without any: the backfill starts before the first one, where there are messages at all.
START = "INSERT INTO search_backfill SELECT 0, 0 WHERE EXISTS (SELECT 1 FROM messages)"

POSTGRES_DOWN = (
    "DROP TRIGGER search_update ON messages",
    "DROP TRIGGER search_insert ON messages",
    "DROP FUNCTION search_message()",
    "DROP TABLE search_documents",
    "DROP TABLE search_backfill",
    "DROP FUNCTION search_terms(bigint, bigint, text, timestamptz, text)",
    "DROP FUNCTION search_words(text)",
)
SQLITE_DOWN = (
    "DROP TRIGGER search_update",
    "DROP TRIGGER search_insert",
    "DROP VIEW search_sources",
    "DROP TABLE search_index",
    "DROP TABLE search_documents",
    "DROP TABLE search_backfill",
)


def upgrade() -> None:
    connection = op.get_bind()
    if connection.dialect.name == "postgresql":
        _need_utf8(connection)
        collation = _collation(connection)
        statements = [POSTGRES[0].replace("%(collation)s", collation), *POSTGRES[1:]]
    else:
        _need_fts5(connection)
        statements = list(SQLITE)
    for statement in [*statements, START]:
        connection.exec_driver_sql(statement)


def downgrade() -> None:
    connection = op.get_bind()
    for statement in POSTGRES_DOWN if connection.dialect.name == "postgresql" else SQLITE_DOWN:
        connection.exec_driver_sql(statement)


def _collation(connection: Connection) -> str:
    """One that lowers every script's letters whatever the database's own locale is: Postgres' own, or ICU's."""
    query = "SELECT collname FROM pg_collation WHERE collname IN ('pg_c_utf8', 'und-x-icu') ORDER BY collname"
    return str(connection.exec_driver_sql(query).scalar() or "default")


def _need_utf8(connection: Connection) -> None:
    encoding = connection.exec_driver_sql("SELECT current_setting('server_encoding')").scalar()
    if encoding != "UTF8":
        raise RuntimeError(f"The database's encoding is {encoding}; Everturn needs UTF8.")


def _need_fts5(connection: Connection) -> None:
    if not connection.exec_driver_sql("SELECT sqlite_compileoption_used('ENABLE_FTS5')").scalar():
        raise RuntimeError("This SQLite was built without FTS5, which the search index needs.")
