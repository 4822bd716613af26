"""Importing: once is as good as twice, a grown conversation grows, and what a user changed here stays."""

import asyncio
import io
import json
import resource
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from service.domain.porting.reading import MOST_BYTES
from service.errors import BodyTooLarge, StorageFull
from tests.porting import samples
from tests.porting.house import House, comparable
from tests.porting.samples import AT, Shape, file_of, message


def grown(item: Shape, *links: tuple[str, str, str], leaf: str) -> Shape:
    """The same conversation later, with more messages."""
    mapping = json.loads(json.dumps(item["mapping"]))
    for name, above, role in links:
        one = message(name, role, name, create_time=AT + 100 + len(mapping))
        mapping[name] = {"id": name, "message": one, "parent": above, "children": []}
        mapping[above]["children"].append(name)
    return {**item, "mapping": mapping, "current_node": leaf, "update_time": AT + 500, "title": "Renamed there"}


async def branch(house: House, talk: int) -> list[str]:
    """The texts from the active leaf up to the root."""
    [(number,)] = await house.rows("SELECT active_leaf_id FROM conversations WHERE id = :talk", talk=talk)
    found = {row.id: row for row in await house.rows("SELECT id, parent_id, content FROM messages")}
    texts = []
    while number:
        texts.append(found[number].content)
        number = found[number].parent_id
    return texts


async def test_an_import_is_done_once(house: House) -> None:
    owner = await house.user()
    first = await house.take_one(owner, samples.chatgpt())
    assert (first.outcome, first.messages, first.added, first.title) == ("imported", 4, 4, "Blue sky")
    again = await house.take_one(owner, samples.chatgpt())
    assert (again.outcome, again.conversation_id, again.added) == ("unchanged", first.conversation_id, 0)
    assert await branch(house, first.conversation_id or 0) == ["Thanks", "Rayleigh scattering.", "Why is the sky blue?"]
    [row] = await house.rows("SELECT count(*) AS n, max(message_count) AS m FROM conversations")
    assert (row.n, row.m) == (1, 4)


async def test_two_users_import_the_same_file_each_for_themselves(house: House) -> None:
    first, second = await house.user(), await house.user()
    mine, theirs = [await house.take_one(owner, samples.chatgpt()) for owner in (first, second)]
    assert (mine.outcome, theirs.outcome) == ("imported", "imported")
    assert mine.conversation_id != theirs.conversation_id


async def test_a_grown_conversation_grows_and_is_followed(house: House) -> None:
    owner = await house.user()
    talk = (await house.take_one(owner, samples.chatgpt())).conversation_id or 0
    later = grown(samples.chatgpt(), ("a3", "q2", "assistant"), ("x", "q", "assistant"), leaf="a3")
    outcome = await house.take_one(owner, later)
    assert (outcome.outcome, outcome.messages, outcome.added) == ("updated", 6, 2)
    assert (await branch(house, talk))[0] == "a3"
    [row] = await house.rows("SELECT title, message_count FROM conversations")
    assert tuple(row) == ("Blue sky", 6)
    assert (await house.take_one(owner, later)).outcome == "unchanged"


async def test_whoever_reads_another_branch_stays_there(house: House) -> None:
    owner = await house.user()
    talk = (await house.take_one(owner, samples.chatgpt())).conversation_id or 0
    await house.write("UPDATE conversations SET active_leaf_id = (SELECT id FROM messages WHERE source_id = 'a1')")
    await house.take_one(owner, grown(samples.chatgpt(), ("a3", "q2", "assistant"), leaf="a3"))
    assert (await branch(house, talk))[0] == "Because."


async def test_what_was_deleted_here_comes_back(house: House) -> None:
    owner = await house.user()
    await house.take_one(owner, samples.chatgpt())
    await house.write("DELETE FROM messages WHERE source_id = 'q2'")
    assert (await house.take_one(owner, samples.chatgpt())).added == 1
    await house.write("DELETE FROM conversations")
    assert (await house.take_one(owner, samples.chatgpt())).outcome == "imported"


async def test_one_conversation_twice_in_a_file_is_one(house: House) -> None:
    owner = await house.user()
    later = grown(samples.chatgpt(), ("a3", "q2", "assistant"), leaf="a3")
    outcomes, summary = await house.take(owner, file_of(samples.chatgpt(), later, samples.chatgpt()))
    assert [one.outcome for one in outcomes] == ["imported", "updated", "unchanged"]
    assert (summary.items, summary.messages_added) == (3, 5)


async def test_ten_imports_of_one_file_at_once_make_one_conversation_each(house: House) -> None:
    owner = await house.user()
    data = file_of(samples.chatgpt("c-1"), samples.chatgpt("c-2"), samples.openwebui())
    summaries = [summary for _, summary in await asyncio.gather(*(house.take(owner, data) for _ in range(10)))]
    assert sum(one.outcomes.get("imported", 0) for one in summaries) == 3
    assert sum(one.messages_added for one in summaries) == 4 + 4 + 3
    assert not any(one.outcomes.get("failed") for one in summaries)
    [(count,)] = await house.rows("SELECT count(*) FROM conversations")
    assert count == 3


async def test_an_import_that_is_cut_off_is_mended_by_a_second_one(house: House) -> None:
    owner, other = await house.user(), await house.user()
    data = file_of(*(samples.chatgpt(f"c-{n}") for n in range(6)))
    for cut in range(0, len(data), len(data) // 7):
        outcomes, _ = await house.take(owner, data[:cut])
        assert {one.outcome for one in outcomes} <= {"imported", "unchanged", "failed"}
    _, summary = await house.take(owner, data)
    assert "failed" not in summary.outcomes
    await house.take(other, data)
    assert comparable(await house.give(owner)) == comparable(await house.give(other))


async def test_a_run_that_nobody_waits_for_any_more_leaves_whole_conversations(house: House) -> None:
    owner = await house.user()
    data = file_of(*(samples.chatgpt(f"c-{n}") for n in range(50)))
    begun = asyncio.Event()

    async def watch() -> None:
        async for _ in house.imports.run(owner, io.BytesIO(data)):
            begun.set()

    task = asyncio.create_task(watch())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    counts = await house.rows("SELECT conversation_id, count(*) AS n FROM messages GROUP BY conversation_id")
    assert {row.n for row in counts} == {4}
    assert len(counts) < 50
    _, summary = await house.take(owner, data)
    assert summary.outcomes == {"unchanged": len(counts), "imported": 50 - len(counts)}


async def test_broken_trees_are_mended_and_reported(house: House) -> None:
    owner = await house.user()
    talk = samples.chatgpt()
    talk["mapping"]["q"]["parent"], talk["mapping"]["q2"]["parent"] = "a2", "gone"
    outcome = await house.take_one(owner, {**talk, "current_node": "nowhere"})
    assert (outcome.outcome, outcome.repaired) == ("imported", {"circle": 1, "missing_parent": 1})
    [row] = await house.rows("SELECT count(*) AS n FROM messages WHERE parent_id IS NULL")
    assert row.n == 2


@pytest.mark.slow
@pytest.mark.other
async def test_a_chain_of_a_hundred_thousand_is_stored(house: House) -> None:
    owner = await house.user()
    mapping: Shape = {
        str(at): {"id": str(at), "parent": str(at - 1) if at else None, "message": message(str(at), "user", "x")}
        for at in range(100_000)
    }
    outcome = await house.take_one(owner, samples.chatgpt(mapping=mapping, current_node="99999"))
    assert (outcome.outcome, outcome.added, outcome.reason) == ("imported", 100_000, None)
    [row] = await house.rows("SELECT max(depth) AS deepest, count(DISTINCT line_id) AS n FROM messages")
    assert tuple(row) == (99_999, 1)


@pytest.mark.parametrize("item", [{"a": 1}, samples.chatgpt(mapping={}), {"mapping": {}}])
async def test_an_item_that_holds_nothing_is_told_and_leaves_nothing(house: House, item: Any) -> None:
    outcome = await house.take_one(await house.user(), item)
    assert outcome.outcome in ("failed", "skipped")
    assert outcome.reason
    assert await house.rows("SELECT id FROM conversations") == []


async def test_the_import_of_somebody_who_is_gone_stores_nothing(house: House) -> None:
    outcomes, summary = await house.take(2**40, file_of(samples.chatgpt()))
    assert summary.outcomes == {"failed": 1}
    assert "user" in (outcomes[0].reason or "")


async def test_an_upload_has_its_bounds(house: House) -> None:
    async def chunks(count: int) -> Any:
        for _ in range(count):
            yield b"x" * 1_000_000

    with await house.imports.receive(chunks(3)) as upload:
        assert upload.tell() == 3_000_000
    with pytest.raises(BodyTooLarge):
        await house.imports.receive(chunks(51))
    assert MOST_BYTES > 50_000_000


@pytest.mark.parametrize("size", [3_000_000, 2_000_001])
async def test_a_full_disk_is_said_and_keeps_nothing(house: House, tmp_path: Path, size: int) -> None:
    """The kernel refuses to let a file grow further, as it does on a disk without room; also the last byte counts."""

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, size, 1000):
            yield b"x" * min(1000, size - start)

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, before[1]))
    try:
        with pytest.raises(StorageFull):
            await house.imports.receive(chunks())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list((tmp_path / "spool").iterdir()) == []
