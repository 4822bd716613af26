"""Export, import, export again: the lines of conversations and messages are the same bytes."""

import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.db.types import EPOCH
from service.domain.media import IMAGES
from service.domain.parts import ImagePart, TextPart, text_of, to_json
from service.domain.paths import normal
from service.domain.porting.talks import Node, Talk
from tests.porting import samples
from tests.porting.house import House, comparable
from tests.porting.samples import Shape, file_of

TEXT = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=12)
NAME = TEXT.filter(bool)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2),
    max_leaves=4,
)
# Few moments, so that many are equal, and children older than their parents.
MOMENTS = st.sampled_from([EPOCH + timedelta(days=20_000, microseconds=n) for n in (0, 1, 999_999, 5_000_000)])
METADATA = st.dictionaries(TEXT, JSON, max_size=3)
FIELDS = st.fixed_dictionaries(
    {
        "title": st.none() | TEXT,
        "system_prompt": st.none() | TEXT,
        "model": st.none() | TEXT,
        "tags": st.lists(NAME, max_size=3, unique=True),
        "metadata": METADATA,
        "archived": st.booleans(),
        "pinned": st.booleans(),
        "created_at": MOMENTS,
        "updated_at": MOMENTS,
        "active_at": MOMENTS,
    }
)
# Images that are nobody's here: what is said of them goes round all the same.
IMAGE = st.builds(
    ImagePart,
    st.from_regex(r"[a-zé中]{1,8}(/[a-z]([a-z ]{0,2}[a-z])?)?\.png", fullmatch=True).map(normal),
    st.text("0123456789abcdef", min_size=64, max_size=64),
    st.sampled_from(sorted(IMAGES)),
    st.integers(1, 10**7),
    st.integers(1, 5000),
    st.integers(1, 5000),
)
PARTS = st.tuples(st.builds(TextPart, TEXT), IMAGE)
PLAIN = st.fixed_dictionaries(
    {
        "role": st.sampled_from(["system", "user", "assistant"]),
        "content": TEXT,
        "parts": st.none(),
        "reasoning": st.none() | TEXT,
        "status": st.sampled_from(["completed", "incomplete", "failed", "cancelled"]),
        "model": st.none() | TEXT,
        "metadata": METADATA,
        "created_at": MOMENTS,
    }
)
MESSAGE = PLAIN | st.builds(
    lambda said, parts: {**said, "role": "user", "content": text_of(parts), "parts": to_json(parts)}, PLAIN, PARTS
)


@st.composite
def talks(draw: st.DrawFn) -> tuple[Shape, list[Shape], Talk]:
    """A conversation's fields, its messages, and their tree, any of them the active leaf or none."""
    nodes = draw(st.lists(MESSAGE, max_size=8))
    parents = [draw(st.none() | st.integers(0, at - 1)) if at else None for at in range(len(nodes))]
    links = Talk("native", "x", exact=True)
    links.nodes = [Node(str(at), None if up is None else str(up), "user", "") for at, up in enumerate(parents)]
    links.leaf = draw(st.none() | st.sampled_from([one.source_id for one in links.nodes])) if nodes else None
    return draw(FIELDS), nodes, links


@given(st.lists(talks(), min_size=1, max_size=3))
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
async def test_what_was_exported_and_imported_is_exported_the_same(house: House, made: list[Any]) -> None:
    first, second, third = await house.user(), await house.user(), await house.user()
    for fields, nodes, links in made:
        await house.talk(first, dict(fields), nodes, links)
    export = await house.give(first)
    outcomes, summary = await house.take(second, export)
    assert summary.outcomes == {"imported": len(made), "skipped": 1}
    assert (summary.left_out, summary.repaired) == ({}, {})
    assert [one.messages for one in outcomes[:-1]] == [len(nodes) for _, nodes, _ in made]
    again = await house.give(second)
    assert comparable(again) == comparable(export)
    # From the copy as well, and once more where it all is already: by the copy's names, and by the first one's own.
    await house.take(third, again)
    assert comparable(await house.give(third)) == comparable(export)
    for owner in (first, second):
        _, summary = await house.take(owner, export)
        assert summary.outcomes == {"unchanged": len(made), "skipped": 1}
        assert comparable(await house.give(owner)) == comparable(export)


async def test_a_foreign_tree_goes_round_in_both_shapes(house: House) -> None:
    first, second, third = await house.user(), await house.user(), await house.user()
    await house.take(first, file_of(samples.chatgpt(), samples.openwebui()))
    export = await house.give(first)
    assert [json.loads(one)["id"] for one in comparable(export)] == [
        "c-1",
        "q",
        "a1",
        "a2",
        "q2",
        "w-1",
        "q",
        "a",
        "bb",
    ]
    await house.take(second, export)
    assert comparable(await house.give(second)) == comparable(export)
    # Whoever imports the first file again meets what came by way of our own.
    _, summary = await house.take(second, file_of(samples.chatgpt(), samples.openwebui()))
    assert summary.outcomes == {"unchanged": 2}
    shaped = await house.give(first, "chatgpt")
    await house.take(third, shaped)
    assert json.loads(shaped.splitlines()[0])["mapping"]["a1"]["children"] == []
    tree = "SELECT source_id, role, content, reasoning, created_at FROM messages WHERE user_id = :owner ORDER BY 5, 1"
    kept = [row for row in await house.rows(tree, owner=third) if row.source_id != "system-prompt"]
    assert [tuple(row) for row in kept] == [tuple(row) for row in await house.rows(tree, owner=first)]
    await house.take(second, b"")
    fourth = await house.user()
    await house.take(fourth, await house.give(third, "chatgpt"))
    assert await house.give(fourth, "chatgpt") == await house.give(third, "chatgpt")


@pytest.mark.parametrize("count", [1200])
async def test_pages_of_any_size_hold_everything_once(house: House, count: int) -> None:
    """More than a page of rows, and messages of which one is more than a page of text."""
    owner, other = await house.user(), await house.user()
    mapping: Shape = {}
    for at in range(count):
        text = "x" * (900_000 if at % 300 == 0 else 3)
        one = samples.message(str(at), "user", text, create_time=1.7e9 + at // 7)
        mapping[str(at)] = {"id": str(at), "parent": str(at - 1) if at else None, "message": one, "children": []}
    await house.take(owner, samples.chatgpt(mapping=mapping))
    export = await house.give(owner)
    lines = [json.loads(one) for one in comparable(export)[1:]]
    assert [one["id"] for one in lines] == [str(at) for at in range(count)]
    told = {"files": 0, "images": 0, "conversations": 1, "messages": count}
    assert json.loads(export.splitlines()[-1]) == {"type": "end", **told}
    await house.take(other, export)
    assert comparable(await house.give(other)) == comparable(export)


async def test_a_turn_that_runs_is_left_out_until_it_has_ended(house: House) -> None:
    owner, other = await house.user(), await house.user()
    moment = EPOCH + timedelta(days=20_000)
    fields = {"title": "x", "tags": [], "created_at": moment, "updated_at": moment, "active_at": moment}
    base = {"content": "", "created_at": moment}
    nodes = [{**base, "role": "user"}, {**base, "role": "assistant", "status": "in_progress"}, {**base, "role": "user"}]
    links = Talk("native", "x", leaf="1", exact=True)
    links.nodes = [Node("0", None, "user", ""), Node("1", "0", "user", ""), Node("2", "1", "user", "")]
    talk = await house.talk(owner, fields, nodes, links)
    [outcome, _], _ = await house.take(other, await house.give(owner))
    assert (outcome.messages, outcome.left_out) == (2, {"in_progress": 1})
    await house.write(
        "UPDATE messages SET status = 'completed', content = 'done' WHERE conversation_id = :talk", talk=talk
    )
    [outcome, _], _ = await house.take(other, await house.give(owner))
    assert (outcome.outcome, outcome.added) == ("updated", 1)
