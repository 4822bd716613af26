"""A worker that has two connections to its database, and two hundred streams at once."""

from pathlib import Path

import pytest

from tests.outages.site import Site, check, open_site

CONNECTIONS = """
    SELECT count(*) AS n FROM pg_stat_activity
    WHERE application_name = 'everturn' AND datname = current_database()
"""
# The pool, and the journal's own.
MOST = 2 + 1


@pytest.mark.parametrize(("streams", "pause"), [(16, 400), pytest.param(200, 1500, marks=pytest.mark.slow)])
def test_two_connections_carry_many_streams(postgres_url: str, tmp_path: Path, streams: int, pause: int) -> None:
    with open_site(postgres_url, tmp_path, settings={"EVERTURN_DATABASE_POOL": "2"}) as site:
        cases = [site.witnesses.new_case(f"say:8 every:{pause}", streamed=True) for _ in range(streams)]
        running = [site.send(case) for case in cases]
        site.wait_for_words(running, 2)
        assert site.witnesses.provider.most_at_once > 0.8 * streams, "they were not all under way at once"
        assert connections(site) <= MOST
        check(site, running, [], going_on=False)
        assert connections(site) <= MOST


def connections(site: Site) -> int:
    return int(site.witnesses.store.read(CONNECTIONS)[0][0]["n"])
