"""Usage."""

import csv
from io import StringIO

from tests.api.steps import OPENAI, ask_anew, call
from tests.contract.desk import Desk, checks

SPAN = "since=2026-10-20T00:00:00Z&until=2026-11-02T00:00:00Z"


@checks("GET /usage")
async def get_usage(desk: Desk) -> None:
    await ask_anew(desk.owner, "Hello?")
    await ask_anew(desk.owner, "Hello?", model="unpriced")
    groups = "group_by=model&group_by=provider"
    report = await call(desk.owner, "GET", f"/usage?{groups}", expect=200)
    text = str(report)
    for name in ("requests", "input_tokens", "output_tokens", "cost_usd", "unpriced", "errors", OPENAI, "openai"):
        assert name in text, name
    for group in ("user", "key", "conversation", "tag"):
        await call(desk.owner, "GET", f"/usage?group_by={group}", expect=200)
    # The clocks of Berlin are put back in this span: one of its days has 25 hours, and none of them used anything.
    empty = await call(desk.owner, "GET", f"/usage?{SPAN}&bucket=day&timezone=Europe/Berlin", expect=200)
    starts = [one["start"] for one in empty["buckets"]]
    assert len(starts) == 14
    assert {start[-6:] for start in starts} == {"+01:00", "+02:00"}
    for bucket in ("hour", "week", "month"):
        await call(desk.owner, "GET", f"/usage?{SPAN}&bucket={bucket}&timezone=UTC", expect=200)


@checks("GET /download/report")
async def download_report(desk: Desk) -> None:
    await ask_anew(desk.owner, "Hello?")
    reply = await desk.owner.get("/download/report?group_by=model&format=csv")
    assert reply.headers["content-type"].startswith("text/csv")
    assert reply.headers["content-disposition"].startswith("attachment; filename=")
    lines = list(csv.DictReader(StringIO(reply.text)))
    assert [line["model"] for line in lines if line["requests"] == "1"] == [OPENAI]
    assert (await desk.owner.get(f"/download/report?{SPAN}")).status_code == 200


@checks("GET /usage/entries")
async def list_entries(desk: Desk) -> None:
    made = await ask_anew(desk.owner, "Hello?")
    page = await call(desk.owner, "GET", f"/usage/entries?model={OPENAI}", expect=200)
    [entry] = page["items"]
    assert (entry["completion_id"], entry["cost_usd"]) == (made["completion_id"], made["cost_usd"])
