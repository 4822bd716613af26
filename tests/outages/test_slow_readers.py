"""Clients that stop reading in the middle of a large answer: the turn goes on, and nobody keeps a copy for each."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.conftest import KINDS, MakeDatabase
from tests.evidence.store import patiently
from tests.outages.readers import Reader
from tests.outages.site import Site, check, open_site

MIB = 1024 * 1024
READERS = 16
# Six megabytes, and twelve.
WORDS, MORE_WORDS = "say:3000 long:2000 every:0", "say:12000 long:1000 every:0"
# What is read at once for one of them, in its several shapes.
EACH = 3 * MIB


@pytest.fixture(scope="module", params=KINDS)
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


@pytest.mark.slow
def test_readers_that_stop_cost_no_whole_answer_each(site: Site) -> None:
    """After its end its events come from the database, a little at once for each reader."""
    asking = site.ask(MORE_WORDS)
    whole = asking.seen.result(60)
    path = f"/completions/{asking.seen.result().completion_id}/stream"
    one_after_another = [site.witnesses.ask("GET", path) for _ in range(3)]
    assert all(seen.body == whole.body for seen in one_after_another)
    before = site.memory()
    with ExitStack() as stack:
        readers = [stack.enter_context(Reader(site.service.port, path, site.witnesses.key)) for _ in range(READERS)]
        grown = site.memory() - before
        assert grown < READERS * EACH, f"{grown / MIB:.0f} MiB for {READERS} readers"
        assert all(reader.rest().body == whole.body for reader in readers)


def completion_of(site: Site, conversation: int) -> int:
    query = f"SELECT id FROM completions WHERE conversation_id = {conversation}"
    for _ in patiently():
        if rows := site.witnesses.store.read(query)[0]:
            return int(rows[0]["id"])
    raise AssertionError("there is no completion")
