"""Filling the search index with messages that are older than it, a batch in a transaction, while others write."""

import logging

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.engine import Database

log = logging.getLogger(__name__)

BATCH = 1000
REPORTED = 100

# The place is a row of its own, taken with the batch: two who fill at once do it one after the other.
PLACE = "SELECT user_id, message_id FROM search_backfill"
MOVE = "UPDATE search_backfill SET user_id = :user_id, message_id = :message_id"
END = "DELETE FROM search_backfill"
# Messages that are deleted meanwhile wait until their batch is in; those written meanwhile are there already.
POSTGRES = """
    WITH batch AS MATERIALIZED (
      SELECT user_id, id, conversation_id, role, created_at, content FROM messages
      WHERE (user_id, id) > (:user_id, :message_id) ORDER BY user_id, id LIMIT :batch FOR KEY SHARE
    ), made AS (
      INSERT INTO search_documents (user_id, message_id, conversation_id, role, created_at, words)
      SELECT user_id, id, conversation_id, role, created_at, words
      FROM (SELECT *, search_words(content) AS words FROM batch OFFSET 0) AS folded WHERE words <> ''
      ON CONFLICT DO NOTHING
    )
    SELECT user_id, id FROM batch ORDER BY user_id DESC, id DESC LIMIT 1
"""
SQLITE_LAST = """
    SELECT user_id, id FROM (
      SELECT user_id, id FROM messages WHERE (user_id, id) > (:user_id, :message_id) ORDER BY user_id, id LIMIT :batch
    ) ORDER BY user_id DESC, id DESC LIMIT 1
"""
SQLITE = """
    INSERT INTO search_sources
    SELECT user_id, id, conversation_id, role, created_at, content FROM messages
    WHERE (user_id, id) > (:user_id, :message_id) ORDER BY user_id, id LIMIT :batch
"""


async def fill_search(database: Database, batch: int = BATCH) -> int:
    """Index what is not indexed yet; return how many batches that took. Killed half-way it goes on from there."""
    done = 0
    while await database.atomically(lambda connection: _fill_batch(connection, batch)):
        done += 1
        if done % REPORTED == 0:
            log.info("search index: %s messages looked through", f"{done * batch:,}")
    return done


async def _fill_batch(connection: AsyncConnection, batch: int) -> bool:
    """One batch; False where nothing is left."""
    postgres = connection.dialect.name == "postgresql"
    place = (await connection.execute(text(PLACE + (" FOR UPDATE" if postgres else "")))).first()
    if place is None:
        return False
    values = {"user_id": place.user_id, "message_id": place.message_id, "batch": batch}
    last = (await connection.execute(text(POSTGRES if postgres else SQLITE_LAST), values)).first()
    if last is None:
        await connection.execute(text(END))
        return False
    if not postgres:
        await connection.execute(text(SQLITE), values)
    await connection.execute(text(MOVE), {"user_id": last.user_id, "message_id": last.id})
    return True
