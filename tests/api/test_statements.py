"""How many statements a listing takes on each database: as many for thirty rows as for two, by cursor one less."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from secrets import token_hex
from typing import Any, cast

import pytest
from pydantic import SecretStr
from sqlalchemy import event, insert

from service.adapters import build_registry
from service.config import Settings
from service.db.tables import completions
from service.domain.filters import CompletionFilter, ConversationFilter
from service.domain.history import Line
from service.domain.paging import Ask, Page
from service.main import Core, build_core
from service.turns.engine import Engine
from service.usecases.completions import Completions
from service.usecases.conversations import Conversations, Draft
from service.usecases.keys import KeyDraft
from service.usecases.messages import MessageDraft, Messages
from service.usecases.users import UserDraft
from tests.conftest import PEPPER

FEW, MANY = 3, 30


@dataclass(frozen=True, slots=True)
class House:
    """The use cases on a database, without HTTP around them, and the conversation of a user."""

    core: Core
    conversations: Conversations
    messages: Messages
    completions: Completions
    user_id: int
    talk: int

    async def add(self, count: int) -> None:
        """So many more of every noun."""
        for _ in range(count):
            user = await self.core.users.create(UserDraft(f"u{token_hex(6)}", tags=("x", "y")))
            await self.core.keys.create(self.user_id, KeyDraft(), None)
            talk = (await self.conversations.create(self.user_id, Draft(title="x", tags=("x", "y")))).made
            await self.messages.add(self.user_id, self.talk, MessageDraft(Line("user", "Hello?")))
            ids = {"user_id": self.user_id, "id": user.id, "conversation_id": talk.id}
            row = {**ids, "model": "m", "provider": "p", "status": "completed"}
            async with self.core.database.transaction() as connection:
                await connection.execute(insert(completions), row)


@pytest.fixture
async def house(database_url: str) -> AsyncIterator[House]:
    settings = Settings(
        database_url=database_url, pepper=SecretStr(PEPPER), local_model="off", sqlite_synchronous="normal"
    )
    core, registry = build_core(settings), build_registry(settings)
    engine = Engine(core.database, core.ids, registry, lease_seconds=30)
    talks = Conversations(core.database, core.ids, core.pager, core.claims, core.images, registry)
    user = await core.users.create(UserDraft("ada"))
    talk = (await talks.create(user.id, Draft(lines=(Line("user", "a"), Line("assistant", "b"))))).made
    yield House(
        core,
        talks,
        Messages(core.database, core.ids, core.pager, core.claims, core.images),
        Completions(core.database, core.pager, engine),
        user.id,
        talk.id,
    )
    await registry.close()
    await core.close()


@contextmanager
def statements(core: Core) -> Iterator[list[str]]:
    """The statements that the with-block sends, without the BEGINs."""
    sent: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if not statement.startswith("BEGIN"):
            sent.append(statement)

    event.listen(core.database.engine.sync_engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(core.database.engine.sync_engine, "before_cursor_execute", note)


Listing = Callable[[House, Ask], Awaitable[Page[Any]]]


def of_talk(house: House, ask: Ask) -> Awaitable[Page[Any]]:
    return house.messages.page(house.user_id, ask, conversation_id=house.talk, recent=True)


# By number, with the count that more rows need, and by cursor.
LISTINGS: dict[str, tuple[Listing, int, int]] = {
    "conversations": (lambda h, ask: h.conversations.page(h.user_id, ConversationFilter(), ask), 3, 2),
    "conversations by tag": (
        lambda h, ask: h.conversations.page(h.user_id, ConversationFilter(q="x", tags=("x", "y"), sort="title"), ask),
        3,
        2,
    ),
    "messages": (lambda h, ask: h.messages.page(h.user_id, ask, conversation_id=None, recent=True), 2, 1),
    "messages of a conversation": (of_talk, 3, 2),
    # The branch's length is its leaf's depth: nothing is counted by number either.
    "branch": (lambda h, ask: h.messages.page_branch(h.user_id, h.talk, ask, recent=False), 4, 4),
    "completions": (lambda h, ask: h.completions.page(CompletionFilter(h.user_id), ask), 2, 1),
    "completions of all": (lambda h, ask: h.completions.page(CompletionFilter(None), ask), 2, 1),
    "keys": (lambda h, ask: h.core.keys.page(h.user_id, ask), 2, 1),
    "users": (lambda h, ask: h.core.users.page(ask), 3, 2),
    "users by tag": (lambda h, ask: h.core.users.page(ask, tags=["x", "y"], q="u"), 3, 2),
}


async def test_the_statements_of_a_listing_do_not_grow_with_its_rows(house: House) -> None:
    await house.add(FEW)
    few = {name: await count(house, listing) for name, (listing, _, _) in LISTINGS.items()}
    await house.add(MANY)
    many = {name: await count(house, listing) for name, (listing, _, _) in LISTINGS.items()}
    # What ends with its page is not counted.
    expected = {
        name: (by_number - (name != "branch"), by_number, by_cursor)
        for name, (_, by_number, by_cursor) in LISTINGS.items()
    }
    assert few == expected
    assert many == expected


async def test_one_conversation_or_message_takes_few_statements(house: House) -> None:
    await house.add(FEW)
    with statements(house.core) as sent:
        await house.conversations.get(house.user_id, house.talk)
    assert len(sent) == 2
    leaf = (await house.conversations.get(house.user_id, house.talk)).active_leaf_id
    with statements(house.core) as sent:
        await house.messages.get(house.user_id, cast(int, leaf))
    assert len(sent) == 1


async def test_a_known_key_takes_no_statement(house: House) -> None:
    made = await house.core.keys.create(house.user_id, KeyDraft(), None)
    with statements(house.core) as sent:
        await house.core.keys.authenticate(made.token)
    assert len(sent) == 1
    with statements(house.core) as sent:
        await house.core.keys.authenticate(made.token)
    assert sent == []


async def count(house: House, listing: Listing) -> tuple[int, int, int]:
    """The statements of all by number, of a page that more follow, and of the page that a cursor leads to."""
    with statements(house.core) as of_all:
        whole = await listing(house, Ask(limit=100))
    assert len(whole.items) >= FEW
    with statements(house.core) as by_number:
        first = await listing(house, Ask(limit=1))
    last = await listing(house, Ask(skip=len(whole.items) - 1, limit=1))
    beyond = await listing(house, Ask(skip=len(whole.items) + 5, limit=1))
    assert {whole.total, first.total, last.total, beyond.total} == {len(whole.items)}
    assert (len(last.items), len(beyond.items)) == (1, 0)
    with statements(house.core) as by_cursor:
        onward = await listing(house, Ask(limit=100, cursor=first.next))
    assert len(onward.items) == len(whole.items) - 1
    return len(of_all), len(by_number), len(by_cursor)
