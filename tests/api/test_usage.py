"""Usage and cost over HTTP: what turns used, whose it is, as a report, as a file and entry by entry."""

import csv
from io import StringIO
from typing import Any

import httpx2
import pytest

from tests.api.steps import OPENAI, ask, ask_anew, call, start_talk
from tests.conftest import People, Running
from tests.servers.service import run_everturn

pytestmark = pytest.mark.usefixtures("llmock")


async def report(client: httpx2.AsyncClient, query: str = "", *, path: str = "/usage") -> Any:
    return await call(client, "GET", f"{path}?{query}", expect=200)


async def test_a_report_holds_what_the_turns_used(people: People) -> None:
    answers = [await ask_anew(people.owner, f"Question {n}?") for n in range(3)]
    other = await ask_anew(people.other, "Mine?", model="unpriced")
    told = await report(people.owner, "group_by=model&group_by=provider&group_by=user")
    assert (told["bucket"], told["timezone"], len(told["buckets"])) == ("day", "UTC", 30)
    [group] = told["buckets"][-1]["groups"]
    assert (group["model"], group["provider"], group["user_id"]) == (OPENAI, "openai", people.owner_id)
    assert group["requests"] == told["total"]["requests"] == 3
    for meter in ("input_tokens", "output_tokens", "cache_read_tokens"):
        assert told["total"][meter] == group[meter] == sum(one["usage"][meter] for one in answers)
    assert told["unpriced_models"] == []
    theirs = await report(people.other, "group_by=model")
    assert (theirs["total"]["requests"], theirs["total"]["cost_usd"]) == (1, None)
    assert theirs["total"]["input_tokens"] == other["usage"]["input_tokens"]
    assert (theirs["unpriced_models"], theirs["total"]["unpriced"]) == (["unpriced"], 1)


async def test_whose_usage_is_shown(people: People) -> None:
    await ask_anew(people.owner, "One?")
    await ask_anew(people.other, "Two?")
    both = f"user_id={people.owner_id}"
    assert (await report(people.owner))["total"]["requests"] == 1
    assert (await report(people.admin, both))["total"]["requests"] == 1
    assert (await report(people.admin))["total"]["requests"] >= 2
    assert (await report(people.admin, path=f"/users/{people.other_id}/usage"))["total"]["requests"] == 1
    assert (await report(people.owner, path="/users/me/usage"))["total"]["requests"] == 1
    groups = (await report(people.admin, "group_by=user"))["buckets"][-1]["groups"]
    assert {people.owner_id, people.other_id} <= {group["user_id"] for group in groups}
    for path in ("/usage", "/usage/entries", "/download/report"):
        await call(people.owner, "GET", f"{path}?user_id={people.other_id}", expect=403)
        await call(people.anonymous, "GET", path, expect=401)
    await call(people.owner, "GET", f"/users/{people.other_id}/usage", expect=404)


async def test_groups_by_key_and_conversation_and_tag(people: People) -> None:
    talk = await start_talk(people.owner, "Hello", "Hi")
    await call(people.owner, "PATCH", f"/conversations/{talk['id']}", {"tags": ["red"]}, expect=200)
    await ask(people.owner, talk["id"], "And?")
    await ask_anew(people.owner, "Elsewhere?")
    by_talk = (await report(people.owner, "group_by=conversation"))["buckets"][-1]["groups"]
    assert talk["id"] in {group["conversation_id"] for group in by_talk}
    assert len(by_talk) == 2
    by_tag = (await report(people.owner, "group_by=tag"))["buckets"][-1]["groups"]
    assert {group["tag"]: group["requests"] for group in by_tag} == {"red": 1, None: 1}
    [by_key] = (await report(people.owner, "group_by=key"))["buckets"][-1]["groups"]
    assert (by_key["key_name"], by_key["requests"]) == ("test", 2)
    # A group has the fields that were asked for, and no others.
    assert set(by_key) & {"model", "provider", "user_id", "tag", "conversation_id", "username"} == set()


async def test_an_erased_user_stays_in_the_sums_without_a_name(people: People) -> None:
    await ask_anew(people.other, "Remember me?")
    await call(people.admin, "DELETE", f"/users/{people.other_id}", expect=200)
    groups = (await report(people.admin, "group_by=user"))["buckets"][-1]["groups"]
    erased = [group for group in groups if group["user_id"] is None]
    assert [group["username"] for group in erased] == [None]
    entries = await call(people.admin, "GET", f"/usage/entries?user_id={people.other_id}", expect=200)
    assert [one["user_id"] for one in entries["items"]] == [people.other_id]


async def test_a_report_as_a_file(people: People) -> None:
    await ask_anew(people.owner, "One?")
    reply = await people.owner.get("/download/report?group_by=model&group_by=user&format=csv")
    assert reply.status_code == 200
    assert reply.headers["content-type"] == "text/csv; charset=utf-8"
    assert reply.headers["content-disposition"].startswith('attachment; filename="usage-')
    assert int(reply.headers["content-length"]) == len(reply.content)
    lines = list(csv.DictReader(StringIO(reply.text)))
    told = await report(people.owner, "group_by=model&group_by=user")
    assert len(lines) == 30
    assert (lines[0]["model"], lines[0]["requests"], lines[0]["cost_usd"]) == ("", "0", "0")
    group = told["buckets"][-1]["groups"][0]
    assert {name: str(value) for name, value in group.items()} == {name: lines[-1][name] for name in group}


@pytest.mark.parametrize("sign", ["=", "+", "-", "@", "\t", "\n", "\r", "\uff1d", "\uff0b", "\uff0d", "\uff20"])
async def test_a_name_is_no_formula(people: People, sign: str) -> None:
    name = f'{sign}HYPERLINK("http://x/{people.owner_id}")'
    made = await call(
        people.owner, "POST", "/users/me/keys", {"name": name, "scopes": ["read", "complete"]}, expect=201
    )
    question = {"model": OPENAI, "messages": [{"role": "user", "content": "One?"}]}
    reply = await people.owner.post(
        "/chat/completions", json=question, headers={"authorization": f"Bearer {made['key']}"}
    )
    assert reply.status_code == 201, reply.text
    text = (await people.owner.get("/download/report?group_by=key")).text
    assert list(csv.DictReader(StringIO(text, newline="")))[-1]["key_name"] == f"'{name}"


async def test_entries_are_listed_and_narrowed(people: People) -> None:
    first = await ask_anew(people.owner, "One?")
    await ask_anew(people.owner, "Two?", model="unpriced")
    page = await call(people.owner, "GET", "/usage/entries?limit=1", expect=200)
    assert (page["total"], len(page["items"])) == (2, 1)
    onward = await call(people.owner, "GET", f"/usage/entries?limit=1&cursor={page['next_cursor']}", expect=200)
    two, one = page["items"][0], onward["items"][0]
    assert (one["completion_id"], one["kind"], one["revision"]) == (first["completion_id"], "charge", 0)
    assert one["cost_usd"] == first["cost_usd"]
    assert (one["provenance"], one["counted_by"], one["price_source"]) == ("provider", "provider", "settings")
    assert (two["provenance"], two["counted_by"], two["cost_usd"]) == ("unpriced", "provider", None)
    for query, count in (("model=unpriced", 1), (f"completion_id={first['completion_id']}", 1), ("kind=correction", 0)):
        page = await call(people.owner, "GET", f"/usage/entries?{query}", expect=200)
        assert page["total"] == count
    await call(people.other, "GET", f"/usage/entries?cursor={page['next_cursor'] or onward['prev_cursor']}", expect=400)


@pytest.mark.parametrize(
    ("query", "where"),
    [
        ("bucket=minute", "bucket"),
        ("timezone=Mars/Olympus", "timezone"),
        ("timezone=localtime", "timezone"),
        ("timezone=Factory", "timezone"),
        ("group_by=colour", "group_by"),
        ("since=yesterday", "since"),
        ("since=2026-01-01T00:00:00", "since"),
        ("since=2026-02-01T00:00:00Z&until=2026-01-01T00:00:00Z", "since"),
        ("since=1900-01-01T00:00:00Z", "since"),
        ("until=9999-12-31T23:59:59Z", "until"),
        ("since=2000-01-01T00:00:00Z&until=2020-01-01T00:00:00Z&bucket=hour", "bucket"),
        ("user_id=0", "user_id"),
    ],
)
async def test_a_bad_question_says_what_is_wrong(people: People, query: str, where: str) -> None:
    for path in ("/usage", "/download/report"):
        answer = await call(people.admin, "GET", f"{path}?{query}", expect=422)
        assert where in str(answer["detail"][0]["loc"])


async def test_the_command_line_proves_what_the_service_wrote(people: People, running_service: Running) -> None:
    await ask_anew(people.owner, "One?")
    environment = running_service.service.environment
    done = run_everturn("verify", environment=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("as the ledger says") == 6
