"""Users and keys as use cases, on both databases."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import SecretStr

from service.config import Settings
from service.domain.callers import SCOPES, Caller, KeyKind, Scope
from service.domain.keys import make_token
from service.domain.paging import Ask
from service.errors import Conflict, Duplicate, Forbidden, NotFound, Unauthenticated, Unprocessable
from service.main import Core, build_core
from service.repositories import keys as key_rows
from service.usecases.keys import KeyDraft
from service.usecases.users import UserDraft, fold

PEPPER = SecretStr("a pepper for tests, long enough to pass")
ALL: frozenset[Scope] = frozenset(SCOPES)


@pytest.fixture
async def core(database_url: str) -> AsyncIterator[Core]:
    made = build_core(Settings(database_url=database_url, pepper=PEPPER))
    yield made
    await made.close()


@pytest.fixture
async def admin(core: Core) -> Caller:
    user = await core.users.create(UserDraft("Root", "root@example.org", role="admin"))
    made = await core.keys.create(user.id, KeyDraft(kind="admin", scopes=SCOPES), None)
    return await core.keys.authenticate(made.token)


def acting(caller: Caller, kind: KeyKind, *scopes: Scope) -> Caller:
    return replace(caller, kind=kind, scopes=frozenset(scopes))


async def elsewhere(database_url: str, token: str) -> Caller:
    """Who another worker says holds this key."""
    other = build_core(Settings(database_url=database_url, pepper=PEPPER))
    try:
        return await other.keys.authenticate(token)
    finally:
        await other.close()


@pytest.mark.parametrize(
    ("draft", "field"),
    [
        (UserDraft("ROOT"), "username"),
        (UserDraft("\uff32oot"), "username"),
        (UserDraft("x", "ROOT@EXAMPLE.ORG"), "email"),
    ],
)
@pytest.mark.usefixtures("admin")
async def test_a_duplicate_says_what_is_taken(core: Core, draft: UserDraft, field: str) -> None:
    with pytest.raises(Duplicate) as caught:
        await core.users.create(draft)
    assert caught.value.facts == {"field": field}


async def test_of_two_at_once_one_gets_the_name(core: Core) -> None:
    made = await asyncio.gather(*(core.users.create(UserDraft("twin")) for _ in range(5)), return_exceptions=True)
    assert sorted(type(one).__name__ for one in made) == ["Duplicate"] * 4 + ["User"]


async def test_a_name_that_grows_when_folded_is_refused(core: Core) -> None:
    assert len(fold("\ufdfa" * 100)) == 1800
    with pytest.raises(Unprocessable):
        await core.users.create(UserDraft("\ufdfa" * 100))


async def test_users_are_found_by_tags_and_part(core: Core, admin: Caller) -> None:
    ada = await core.users.create(UserDraft("Ada", "a%b@example.org", tags=("x", "y")))
    await core.users.create(UserDraft("Bob", tags=("x",)))
    assert [u.id for u in (await core.users.page(Ask(), tags=["y", "x"])).items] == [ada.id]
    assert [u.id for u in (await core.users.page(Ask(), q="A%B")).items] == [ada.id]
    assert (await core.users.page(Ask(), q="%")).total == 1
    assert (await core.users.page(Ask(), tags=["x"])).total == 2
    assert (await core.users.page(Ask())).items[-1].id == admin.user_id


async def test_settings_are_changed_one_by_one(core: Core, admin: Caller) -> None:
    await core.users.edit(admin.user_id, {}, {"theme": "dark"})
    changed = await core.users.edit(
        admin.user_id, {"email": None, "username": "Chief"}, {"notifications_enabled": False}
    )
    assert changed.settings == {"theme": "dark", "notifications_enabled": False}
    assert (changed.username, changed.email) == ("Chief", None)
    assert await core.users.find_named("ROOT") is None


async def test_the_last_admin_stays(core: Core, admin: Caller) -> None:
    me = admin.user_id
    for change in (core.erasures.erase(me), core.users.govern(me, role="user"), core.users.govern(me, disabled=True)):
        with pytest.raises(Conflict):
            await change
    second = await core.users.create(UserDraft("second", role="admin"))
    outcomes = await asyncio.gather(
        core.users.govern(me, role="user"), core.users.govern(second.id, role="user"), return_exceptions=True
    )
    assert sum(isinstance(one, Conflict) for one in outcomes) == 1


async def test_an_erased_users_keys_stop(core: Core, database_url: str) -> None:
    user = await core.users.create(UserDraft("gone", tags=("x",)))
    made = await core.keys.create(user.id, KeyDraft(), None)
    receipt = await core.erasures.erase(user.id)
    assert (receipt.erased["keys"], receipt.kept) == (1, {"ledger_entries": 0})
    with pytest.raises(Unauthenticated):
        await elsewhere(database_url, made.token)
    with pytest.raises(NotFound):
        await core.users.get(user.id)


async def test_a_known_key_needs_no_database(core: Core, admin: Caller) -> None:
    made = await core.keys.create(admin.user_id, KeyDraft(), None)
    caller = await core.keys.authenticate(made.token)
    await core.close()
    assert await core.keys.authenticate(made.token) is caller


async def test_unknown_changed_and_revoked_keys_are_refused(core: Core, admin: Caller, database_url: str) -> None:
    made = await core.keys.create(admin.user_id, KeyDraft(), admin)
    for text in (make_token(made.key.id).text, make_token(9999).text, made.token[:-1], "", "\ud800"):
        with pytest.raises(Unauthenticated):
            await core.keys.authenticate(text)
    assert (await core.keys.authenticate(made.token)).key_id == made.key.id
    await core.keys.revoke(admin.user_id, made.key.id)
    await core.keys.revoke(admin.user_id, made.key.id)
    with pytest.raises(Unauthenticated):
        await core.keys.authenticate(made.token)
    with pytest.raises(Unauthenticated):
        await elsewhere(database_url, made.token)


async def test_a_disabled_users_key_is_refused(core: Core, database_url: str) -> None:
    user = await core.users.create(UserDraft("ada"))
    made = await core.keys.create(user.id, KeyDraft(), None)
    await core.users.govern(user.id, disabled=True)
    with pytest.raises(Unauthenticated):
        await elsewhere(database_url, made.token)


async def test_an_admins_key_falls_with_the_role(core: Core, admin: Caller, database_url: str) -> None:
    second = await core.users.create(UserDraft("second", role="admin"))
    made = await core.keys.create(second.id, KeyDraft(kind="admin"), admin)
    assert (await elsewhere(database_url, made.token)).kind == "admin"
    await core.users.govern(second.id, role="user")
    assert (await elsewhere(database_url, made.token)).kind == "user"


async def test_a_demoted_admins_service_key_ends(core: Core, admin: Caller, database_url: str) -> None:
    second = await core.users.create(UserDraft("second", role="admin"))
    made = await core.keys.create(second.id, KeyDraft(kind="service"), admin)
    await core.users.govern(second.id, tags=["kept"])
    assert (await elsewhere(database_url, made.token)).kind == "service"
    await core.users.govern(second.id, role="user")
    with pytest.raises(Unauthenticated):
        await elsewhere(database_url, made.token)


async def test_a_key_that_expires_makes_none_that_lives_longer(core: Core, admin: Caller) -> None:
    soon = datetime.now(UTC) + timedelta(hours=1)
    brief = replace(admin, expires_at=soon)
    for later in (None, soon + timedelta(seconds=1)):
        with pytest.raises(Forbidden):
            await core.keys.create(admin.user_id, KeyDraft(expires_at=later), brief)
    assert (await core.keys.create(admin.user_id, KeyDraft(expires_at=soon), brief)).key.expires_at == soon


@pytest.mark.parametrize(
    ("kind", "scopes", "creator"),
    [
        ("service", ("read",), ("user", "read", "write")),
        ("admin", ("read",), ("service", "read", "write")),
        ("user", ("read", "complete"), ("user", "read", "write")),
        ("service", ("provision",), ("admin", "read", "write")),
    ],
)
async def test_a_key_gives_no_more_than_it_has(
    core: Core, admin: Caller, kind: KeyKind, scopes: tuple[Scope, ...], creator: tuple[KeyKind, *tuple[Scope, ...]]
) -> None:
    with pytest.raises(Forbidden):
        await core.keys.create(admin.user_id, KeyDraft(kind=kind, scopes=scopes), acting(admin, *creator))


async def test_a_key_must_make_sense(core: Core) -> None:
    ada = await core.users.create(UserDraft("ada"))
    past = datetime.now(UTC) - timedelta(seconds=1)
    for draft in (KeyDraft(expires_at=past), KeyDraft(scopes=("provision",)), KeyDraft(kind="admin")):
        with pytest.raises(Unprocessable):
            await core.keys.create(ada.id, draft, None)
    with pytest.raises(NotFound):
        await core.keys.create(4711, KeyDraft(), None)


async def test_rotation_keeps_the_old_key_for_a_while(core: Core, admin: Caller, database_url: str) -> None:
    soon = datetime.now(UTC) + timedelta(days=2)
    old = await core.keys.create(admin.user_id, KeyDraft("laptop", expires_at=soon), admin)
    new = await core.keys.rotate(admin.user_id, old.key.id, overlap_seconds=3600, caller=admin)
    assert (new.key.name, new.key.scopes) == (old.key.name, old.key.scopes)
    for token in (old.token, new.token):
        assert (await elsewhere(database_url, token)).user_id == admin.user_id
    kept = await core.keys.get(admin.user_id, old.key.id)
    assert kept.rotated_to == new.key.id
    assert kept.expires_at is not None
    assert kept.expires_at < soon - timedelta(days=1)
    with pytest.raises(Conflict):
        await core.keys.rotate(admin.user_id, old.key.id, overlap_seconds=0, caller=admin)
    await core.keys.rotate(admin.user_id, new.key.id, overlap_seconds=0, caller=admin)
    with pytest.raises(Unauthenticated):
        await core.keys.authenticate(new.token)


async def test_rotation_is_no_way_up(core: Core, admin: Caller) -> None:
    own = acting(admin, "user", "read", "write", "complete")
    with pytest.raises(Forbidden):
        await core.keys.rotate(admin.user_id, admin.key_id, overlap_seconds=0, caller=own)


async def test_an_expired_key_is_refused(core: Core, admin: Caller, database_url: str) -> None:
    made = await core.keys.create(admin.user_id, KeyDraft(), None)
    assert (await elsewhere(database_url, made.token)).key_id == made.key.id
    async with core.database.transaction() as connection:
        past = {"expires_at": datetime.now(UTC) - timedelta(seconds=1)}
        assert await key_rows.edit_key(connection, admin.user_id, made.key.id, past)
    with pytest.raises(Unauthenticated):
        await elsewhere(database_url, made.token)


async def test_a_service_key_acts_for_ordinary_users_only(core: Core, admin: Caller) -> None:
    service = acting(admin, "service", "read")
    ada = await core.users.create(UserDraft("ada", external_id="crm-1"))
    assert await core.users.act_for(service, ada.id) == ada.id
    assert await core.users.act_for(service, "crm-1") == ada.id
    with pytest.raises(Forbidden):
        await core.users.act_for(service, admin.user_id)
    assert await core.users.act_for(admin, admin.user_id) == admin.user_id
    for unknown in (4711, "crm-2"):
        with pytest.raises(NotFound):
            await core.users.act_for(service, unknown)
    await core.users.govern(ada.id, disabled=True)
    with pytest.raises(Forbidden):
        await core.users.act_for(service, ada.id)


async def test_an_unknown_external_id_becomes_one_user(core: Core, admin: Caller) -> None:
    service = acting(admin, "service", "read", "provision")
    made = await asyncio.gather(*(core.users.act_for(service, "kunde-7") for _ in range(6)))
    assert len(set(made)) == 1
    user = await core.users.get(made[0])
    assert (user.username, user.external_id, user.role) == ("kunde-7", "kunde-7", "user")


@pytest.mark.parametrize("external_id", ["Root", "\ufdfa" * 150, "x" * 200])
async def test_an_external_id_that_cannot_name_its_user_still_makes_one(
    core: Core, admin: Caller, external_id: str
) -> None:
    service = acting(admin, "service", "read", "provision")
    user = await core.users.get(await core.users.act_for(service, external_id))
    assert user.external_id == external_id
    assert user.id != admin.user_id
