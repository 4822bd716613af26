"""Titles where several workers ask one model for them: each conversation gets one, whoever answered it."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.api.steps import call
from tests.conftest import KINDS, Kind, MakeDatabase, admin_key_for, bare_environment
from tests.patience import until
from tests.servers import workers
from tests.servers.provider import Plan, Provider
from tests.servers.service import Service
from tests.servers.workers import OTHER, Pair, Two
from tests.workers.steps import chat, opened, resume

TALKS = 12


@pytest.fixture(params=KINDS)
def pair(
    request: pytest.FixtureRequest, make_database: MakeDatabase, recorder: Provider, tmp_path: Path
) -> Iterator[Pair]:
    """Two workers of the test's own that have a title model; `two` is a user of them."""
    kind: Kind = request.param
    with ExitStack() as stack:
        url, files = stack.enter_context(make_database(kind)), tmp_path / "files"
        own = {"EVERTURN_FILES_DIR": str(files), "EVERTURN_TITLE_MODEL": OTHER}
        environment = bare_environment(url) | workers.settings(recorder) | own
        services = []
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            services.append(Service(environment, tmp_path / name))
            stack.callback(services[-1].kill)
        yield Pair(services[0], services[1], recorder, url, admin_key_for(url), files)


def entitle(two: Two, plan: Plan, title: str) -> None:
    """What the model says when it is asked to name the talk that begins so."""
    quoted = f"<user>\n{plan.question}\n</user>\n<assistant>\n{plan.answer}\n</assistant>"
    two.pair.provider._plans[quoted] = Plan(title, words=1)


async def titled(two: Two, titles: dict[int, str]) -> None:
    """Wait for the titles of these conversations, which every worker tells."""

    async def are_there() -> bool:
        found = [await call(two.there, "GET", f"/conversations/{talk}", expect=200) for talk in titles]
        return [one["title"] for one in found] == list(titles.values())

    await until(are_there, "the titles")


async def test_each_conversation_is_named_once(two: Two) -> None:
    plans = [two.plan() for _ in range(TALKS)]
    for number, plan in enumerate(plans):
        entitle(two, plan, f"Talk {number}")
    asked = [two.clients[at % 2].post("/chat/completions", json=chat(plan)) for at, plan in enumerate(plans)]
    talks = [reply.json()["conversation_id"] for reply in await asyncio.gather(*asked)]
    await titled(two, {talk: f"Talk {number}:0" for number, talk in enumerate(talks)})
    page = await call(two.there, "GET", f"/completions?model={OTHER}", expect=200)
    assert page["total"] == TALKS
    assert {(one["status"], one["parameters"]["purpose"]) for one in page["items"]} == {("completed", "title")}
    spent = (await call(two.here, "GET", "/usage", expect=200))["total"]
    assert (spent["requests"], spent["errors"]) == (2 * TALKS, 0)


async def test_who_takes_a_turn_over_names_its_conversation(two: Two) -> None:
    plan = two.plan(hold_after=0)
    entitle(two, plan, "Taken over")
    async with opened(two.here, "/chat/completions/stream", chat(plan)) as stream:
        await plan.asked()
        await asyncio.to_thread(two.one.kill)
    await plan.asked(2)
    plan.go()
    await resume(two.there, stream.completion_id)
    record = await call(two.there, "GET", f"/completions/{stream.completion_id}", expect=200)
    await titled(two, {record["conversation_id"]: "Taken over:0"})
    assert (await call(two.there, "GET", f"/completions?model={OTHER}", expect=200))["total"] == 1
