"""Clients that stop reading in the middle of a large answer: the turn goes on, and they get it when they go on."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.conftest import MakeDatabase
from tests.evidence.store import patiently
from tests.outages.readers import Reader
from tests.outages.site import Site, check, open_site

READERS = 16
# Six megabytes.
WORDS = "say:3000 long:2000 every:0"


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgres", marks=pytest.mark.slow)])
def site(
    request: pytest.FixtureRequest, make_database: MakeDatabase, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    with (
        make_database(request.param) as url,
        open_site(url, tmp_path_factory.mktemp("readers")) as site,
    ):
        yield site


def test_readers_that_stop_hold_no_turn_back(site: Site) -> None:
    asking = site.ask(WORDS)
    site.wait_for_words([asking], 20)
    with ExitStack() as stack:
        path = f"/completions/{completion_of(site, asking.case.conversation)}/stream"
        readers = [stack.enter_context(Reader(site.service.port, path, site.witnesses.key)) for _ in range(READERS)]
        whole = asking.seen.result(60)
        check(site, [asking], [])
        assert all(reader.rest().body == whole.body for reader in readers)


def completion_of(site: Site, conversation: int) -> int:
    query = f"SELECT id FROM completions WHERE conversation_id = {conversation}"
    for _ in patiently():
        if rows := site.witnesses.store.read(query)[0]:
            return int(rows[0]["id"])
    raise AssertionError("there is no completion")
