"""Search over HTTP on both databases: what is found, in which order, how it is shown, and how one pages through it."""

import asyncio
import time
from collections.abc import Sequence
from urllib.parse import quote, urlencode

import httpx2
import pytest

from service.repositories import search as port
from service.usecases.search import TIER
from tests.api.steps import ANTHROPIC, Json, ask_anew, call, start_talk
from tests.conftest import People


async def search(client: httpx2.AsyncClient, query: str, **more: object) -> Json:
    page: Json = await call(client, "GET", f"/search?{urlencode({'query': query, **more})}", expect=200)
    return page


async def found(client: httpx2.AsyncClient, query: str, **more: object) -> list[int]:
    return [item["id"] for item in (await search(client, query, limit=100, **more))["items"]]


async def store(client: httpx2.AsyncClient, *contents: str, talk: int | None = None) -> list[int]:
    """The numbers of new messages, the oldest first."""
    made = []
    for content in contents:
        body = {"role": "user", "content": content, **({"conversation_id": talk} if talk else {})}
        made.append((await call(client, "POST", "/chat", body, expect=201))["id"])
    return made


async def test_a_match_is_shown_with_its_passage_and_its_conversation(http: httpx2.AsyncClient) -> None:
    talk = await start_talk(http, "When does the ferry leave?", "The ferry to Gozo leaves at noon.", title="Malta")
    page = await search(http, "gozo FERRY")
    [hit] = page["items"]
    assert hit["snippet"] == "The <mark>ferry</mark> to <mark>Gozo</mark> leaves at noon."
    assert hit["conversation"] == {"id": talk["id"], "title": "Malta", "archived": False, "pinned": False}
    assert (hit["conversation_id"], hit["role"], hit["status"], hit["provider"]) == (
        talk["id"], "assistant", "completed", None,
    )  # fmt: skip
    assert 0 < hit["score"] <= 1
    assert (page["total"], page["more"], page["next_cursor"], page["prev_cursor"]) == (1, False, None, None)
    message = await call(http, "GET", f"/messages/{hit['id']}", expect=200)
    assert message["created_at"] == hit["created_at"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("apple", "abcd"),
        ("apple pie", "ab"),
        ('"apple pie"', "a"),
        ("“apple pie”", "a"),
        ('"pie apple"', "b"),
        ("apple -pie", "cd"),
        ('apple -"apple pie"', "bcd"),
        ("-apple", ""),
        ("apple -apple", ""),
        ("appl", ""),
        ("APPLE crème", "c"),
        ("creme", "c"),
        ('"apple pie', "a"),
        ("apple-pie", "a"),
        ("file_name.txt", "d"),
        ("name", "d"),
        ("don't", "d"),
        ("苹果", "e"),
        ("果派", "e"),
        ("派苹", ""),
        ("ПРИВЕТ", "e"),
        ("strasse", "e"),
        ("🎉", "e"),
        ("AND", ""),
        ("apple AND pie", ""),
        ("apple OR pie", ""),
        ("nothing", ""),
    ],
)
async def test_what_a_query_means(http: httpx2.AsyncClient, query: str, expected: str) -> None:
    contents = {
        "a": "An apple pie, please.",
        "b": "A pie. Apple? Yes.",
        "c": "Apple crème",
        "d": "I don't know apple's file_name.txt",
        "e": "苹果派很好吃。 Привет! Straße 🎉",
    }
    names = dict(zip(await store(http, *contents.values()), contents, strict=True))
    assert "".join(sorted(names[one] for one in await found(http, query))) == expected


ODD = [
    "'", '"', '""', '"""', "-", "--", '-"', "- -", "*", "a*", "(", ")", "a (b", "a AND", "NOT", "NEAR(a b)", "a:b",
    "words:a", "^a", "a & | ! <-> b", "!!", ":*", "\\", "'\\'", "%", "_", "u_1", "r_user", "a\tb\nc",
    "\u202e", "\ufeff", "😀", "🇩🇪", "ﷺ" * 1000, "a" * 1000, "a " * 500, '"' * 1000, "-a " * 333, "é" * 1000, "{}[]",
    "x'); DROP TABLE messages; --", "\U0010ffff", "ｶﾞ", "--a", "---", "+a", "~a", "a OR", "{a b}: c", "col : x", "$1",
    "a\u0301", "?1", "@a", ":asked", "a\x01b", "a\x7f", "\ud7ff\ue000", "ı İ ẞ ς", "a" * 63 + " " + "a" * 65,
]  # fmt: skip


async def test_odd_syntax_never_fails(http: httpx2.AsyncClient) -> None:
    await store(http, "a b c")
    for query in ODD:
        page = await search(http, query)
        assert page["total"] == len(page["items"]), query


async def test_a_query_is_needed_and_bounded(http: httpx2.AsyncClient) -> None:
    for path in ("/search", "/search?query=", f"/search?query={'a' * 1001}", "/search?query=%00"):
        assert (await call(http, "GET", path, expect=422))["code"] == "unprocessable"
    bad = ("role=x", "conversation_id=0", "conversation_id=x", "since=yesterday", "since=2026-01-01T00:00:00",
           "limit=101", f"provider={'a' * 65}", "skip=-1")  # fmt: skip
    for wrong in bad:
        await call(http, "GET", f"/search?query=a&{wrong}", expect=422)
    # More words than are looked for: the further ones are passed over.
    [one] = await store(http, "w0 " * 100)
    assert await found(http, " ".join(["w0", *('"w0 w0"' for _ in range(20)), "w1"])) == [one]


async def test_the_best_comes_first_and_of_equal_ones_the_newest(http: httpx2.AsyncClient) -> None:
    once, often, long, again = await store(
        http, "tea", "tea, tea and more tea", "tea " + "and a lot of other things " * 100, "tea"
    )
    assert await found(http, "tea") == [often, again, once, long]
    apart, together = await store(http, "green leaves and tea", "green tea and leaves")
    await store(http, "filler")
    assert await found(http, "green tea") == [together, apart]


@pytest.mark.usefixtures("llmock")
async def test_filters_narrow_the_matches(http: httpx2.AsyncClient) -> None:
    first = await ask_anew(http, "Narwhal one")
    second = await ask_anew(http, "Narwhal two", model=ANTHROPIC)
    [alone] = await store(http, "narwhal three")
    asked = await found(http, "narwhal", role="user")
    assert len(asked) == 3
    assert await found(http, "narwhal", role="system") == []
    assert await found(http, "narwhal", conversation_id=first["conversation_id"], role="user") != []
    answers = await call(http, "GET", f"/messages/{first['id'].removeprefix('msg_')}", expect=200)
    word = max(answers["content"].split(), key=len).strip(".,!?")
    openai = await found(http, word, provider="openai")
    assert openai == [answers["id"]]
    assert answers["id"] not in await found(http, word, provider="anthropic")
    assert await found(http, word, provider="nobody") == []
    stored = await call(http, "GET", f"/messages/{alone}", expect=200)
    assert await found(http, "narwhal", since=stored["created_at"]) == [alone]
    assert set(await found(http, "narwhal", until=stored["created_at"], role="user")) == set(asked) - {alone}
    assert await found(http, "narwhal", since="2020-01-01T00:00:00Z", until="2021-01-01T00:00:00Z") == []
    assert (
        await found(http, "narwhal", since="0001-01-01T00:00:00Z", until="9999-12-31T23:59:59Z", role="user") == asked
    )
    assert second["conversation_id"] != first["conversation_id"]


async def test_nobody_finds_what_is_anothers(people: People) -> None:
    talk = (await start_talk(people.owner, "A secret walrus"))["id"]
    assert await found(people.other, "walrus") == []
    assert await found(people.other, "walrus", conversation_id=talk) == []
    assert await found(people.other, f"walrus u_{people.owner_id}") == []
    assert len(await found(people.owner, "walrus", conversation_id=talk)) == 1
    people.admin.headers["Everturn-User"] = str(people.owner_id)
    assert len(await found(people.admin, "walrus")) == 1
    await store(people.other, "My own walrus")
    cursor = (await search(people.owner, "walrus", limit=1, skip=1))["prev_cursor"]
    refused = await call(people.other, "GET", f"/search?query=walrus&cursor={cursor}", expect=400)
    assert refused["code"] == "bad_cursor"


@pytest.mark.usefixtures("llmock")
async def test_an_answer_is_found_when_its_turn_has_ended(http: httpx2.AsyncClient) -> None:
    answer = await ask_anew(http, "Aardvark?")
    talk = answer["conversation_id"]
    assert len(await found(http, "aardvark", role="user")) == 1
    word = max(answer["content"].split(), key=len).strip(".,!?")
    assert int(answer["id"].removeprefix("msg_")) in await found(http, word, conversation_id=talk)
    await call(http, "DELETE", f"/conversations/{talk}", expect=204)
    assert await found(http, "aardvark") == []


async def test_an_edit_is_found_beside_what_it_replaces_and_a_deleted_message_is_not(http: httpx2.AsyncClient) -> None:
    [first] = await store(http, "old wording")
    sibling = (await call(http, "PATCH", f"/messages/{first}", {"content": "new wording"}, expect=200))["id"]
    assert await found(http, "wording") == [sibling, first]
    await call(http, "DELETE", f"/messages/{first}", expect=200)
    assert await found(http, "wording") == [sibling]


async def test_a_snippet_is_safe_html(http: httpx2.AsyncClient) -> None:
    await store(http, "<script>alert('x')</script> & <mark>not a match</mark> \"quoted\" <b>zebra</b>")
    [hit] = (await search(http, "zebra"))["items"]
    assert hit["snippet"] == (
        "&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt; &amp; &lt;mark&gt;not a match&lt;/mark&gt;"
        " &quot;quoted&quot; &lt;b&gt;<mark>zebra</mark>&lt;/b&gt;"
    )


async def walk(client: httpx2.AsyncClient, page: Json, query: str, direction: str, limit: int) -> list[Json]:
    pages = [page]
    while cursor := pages[-1][direction]:
        pages.append(await search(client, query, cursor=cursor, limit=limit))
        assert pages[-1]["total"] is None
        assert len(pages) < 100
    return pages


def ids(pages: Sequence[Json]) -> list[int]:
    return [item["id"] for page in pages for item in page["items"]]


async def test_one_pages_through_more_matches_than_are_ranked_together(http: httpx2.AsyncClient) -> None:
    count = 2 * TIER + 50
    roles = [{"role": "user", "content": f"otter {'otter ' * (n % 7)}{n}"} for n in range(count)]
    talk = (await call(http, "POST", "/conversation", {"messages": roles}, expect=201))["id"]
    listed = await call(http, "GET", f"/conversations/{talk}/messages?limit=100&skip={count - 50}", expect=200)
    newest = [one["id"] for one in listed["items"]]
    first = await search(http, "otter", limit=90)
    assert (first["total"], first["more"], len(first["items"])) == (TIER, True, 90)
    pages = await walk(http, first, "otter", "next_cursor", 90)
    everything = ids(pages)
    assert len(everything) == len(set(everything)) == count
    assert set(newest) <= set(everything[:TIER])
    assert [len(page["items"]) for page in pages] == [90, 90, 20, 90, 90, 20, 50]
    assert pages[-1]["more"] is False
    back = await walk(http, pages[-1], "otter", "prev_cursor", 90)
    assert ids(back[::-1])[: count - 50] == everything[: count - 50]
    by_number = [await search(http, "otter", limit=50, skip=skip) for skip in (0, 50, 100, 150)]
    assert ids(by_number) == everything[:TIER]
    beyond = await search(http, "otter", limit=50, skip=TIER)
    assert (beyond["items"], beyond["total"], beyond["more"]) == ([], TIER, True)
    assert ids([await search(http, "otter", cursor=beyond["next_cursor"], limit=90)]) == ids([pages[3]])
    # Newer matches do not move what a cursor has seen.
    await store(http, "otter " * 9, "otter")
    again = await search(http, "otter", cursor=first["next_cursor"], limit=90)
    assert ids([again]) == ids([pages[1]])


async def test_phrases_are_found_among_many_messages_that_have_the_words(http: httpx2.AsyncClient) -> None:
    assert port.MOST > port.FEW > TIER
    lines = [{"role": "user", "content": "left right" if n % 40 else "right left"} for n in range(1000)]
    for _ in range(2):
        await call(http, "POST", "/conversation", {"messages": lines}, expect=201)
    page = await search(http, '"right left"', limit=100)
    assert (page["total"], page["more"]) == (50, False)
    assert {item["snippet"] for item in page["items"]} == {"<mark>right left</mark>"}


async def test_a_search_stays_right_while_others_write_and_are_erased(people: People) -> None:
    stop = asyncio.Event()

    async def write(client: httpx2.AsyncClient) -> int:
        made = 0
        while not stop.is_set():
            await store(client, f"ibex {made}")
            made += 1
        return made

    async def look() -> None:
        seen = 0
        until = time.monotonic() + 3
        while time.monotonic() < until:
            page = await search(people.owner, "ibex", limit=100)
            assert page["total"] >= seen
            seen = page["total"]
        stop.set()

    async def erase() -> None:
        while not stop.is_set():
            made = await call(people.admin, "POST", "/users", {"username": f"gone-{time.monotonic_ns()}"}, expect=201)
            people.admin.headers["Everturn-User"] = str(made["id"])
            await start_talk(people.admin, *("ibex" for _ in range(50)))
            assert len(await found(people.admin, "ibex")) == 50
            del people.admin.headers["Everturn-User"]
            await call(people.admin, "DELETE", f"/users/{made['id']}", expect=200)

    mine, others, _, _ = await asyncio.gather(write(people.owner), write(people.other), look(), erase())
    assert len(await found(people.owner, "ibex", until="2100-01-01T00:00:00Z")) == min(100, mine)
    assert (await search(people.other, "ibex"))["total"] == min(TIER, others)


async def test_the_address_of_a_page_keeps_the_query(http: httpx2.AsyncClient) -> None:
    await store(http, *(f"emu & co {n}" for n in range(4)))
    asked = quote('emu & "co"')
    reply = await http.get(f"/search?query={asked}&limit=2&role=user")
    assert reply.headers["x-total-count"] == "4"
    onward = reply.headers["link"].split('rel="first", ')[1].split(">")[0].removeprefix("<")
    assert len((await call(http, "GET", onward, expect=200))["items"]) == 2
