"""The contract, asked of a running service: every row of docs/api-contract.md is answered as it is written there."""

from importlib import import_module
from pkgutil import iter_modules

import pytest

from tests.api.steps import Json, call
from tests.conftest import People
from tests.contract import rows as folder
from tests.contract.desk import CHECKS, Desk, Exchange
from tests.contract.page import PAGE, Call, Row, read_rows
from tests.contract.proof import unproven

for module in iter_modules(folder.__path__):
    import_module(f"{folder.__name__}.{module.name}")

ROWS = read_rows(PAGE.read_text("utf-8"))
CALLS = [one for row in ROWS for one in row.calls]
# Calls of the page that no code answers yet. Whoever adds one writes its check and takes it out of here.
MISSING: set[str] = set()
# What needs no key.
OPEN = {"The service itself (no key)"}


def test_the_page_is_read_whole() -> None:
    text = PAGE.read_text("utf-8")
    tabled = [line for line in text.splitlines() if line.startswith("| `")]
    assert len(ROWS) == len(tabled) > 40
    assert len(CALLS) == len(set(CALLS)) >= 70
    assert all(row.calls for row in ROWS)


def test_every_call_has_a_check_or_is_known_to_be_missing() -> None:
    written = {str(one) for one in CALLS}
    assert written - set(CHECKS) == MISSING & written, "Write a check in tests/contract/rows/ for each call."
    assert set(CHECKS) <= written, "These are not on the page: docs/api-contract.md"
    assert written >= MISSING, "These are not on the page, so they cannot be missing."


@pytest.mark.parametrize("name", sorted(MISSING))
async def test_what_is_missing_is_not_answered(people: People, name: str) -> None:
    method, _, path = name.partition(" ")
    allowed = await people.anonymous.options(path.replace("{path}", "a"))
    there = method in allowed.headers.get("allow", "").split(", ")
    assert not there, f"{name} is answered now: write its check in tests/contract/rows/ and take it out of MISSING."


@pytest.mark.parametrize("row", ROWS, ids=lambda row: ", ".join(map(str, row.calls)))
async def test_a_row_is_answered_as_it_is_written(desk: Desk, row: Row) -> None:
    calls = [one for one in row.calls if str(one) not in MISSING]
    if not calls:
        return
    for check in dict.fromkeys(CHECKS[str(one)] for one in calls):
        await check(desk)
    traffic = {one: desk.of(one, CALLS) for one in calls}
    described: Json = await call(desk.people.anonymous, "GET", "/openapi.json", expect=200)
    left = unproven(row, traffic, described)
    assert not left, f"{row.text}\n" + "\n".join(left)
    if row.section not in OPEN:
        for one, exchanges in traffic.items():
            await _check_keys(desk, row, one, exchanges)


async def _check_keys(desk: Desk, row: Row, one: Call, exchanges: list[Exchange]) -> None:
    """Nobody without a key is answered, and only admins where the row says so."""
    request = next(exchange.request for exchange in exchanges if exchange.reply.status_code < 400)
    strangers = {401: desk.people.anonymous} | ({403: desk.owner} if row.admin_only else {})
    for status, client in strangers.items():
        headers = {"Content-Type": request.headers.get("content-type", "text/plain")}
        reply = await client.request(one.method, str(request.url), content=request.content, headers=headers)
        assert reply.status_code == status, f"{one} is answered with {reply.status_code}, not with {status}"
