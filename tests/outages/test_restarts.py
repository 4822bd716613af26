"""Postgres restarted, and its connections ended, in the middle of turns: all of it is there afterwards."""

import threading
from typing import Literal

import pytest

from tests.outages.site import Site, check, meanwhile, seeded
from tests.servers.postgres import Postgres

# One connection of the service's: the n-th, counted round and round.
TERMINATE = """
    WITH mine AS (
        SELECT pid, row_number() OVER (ORDER BY pid) - 1 AS place, count(*) OVER () AS many FROM pg_stat_activity
        WHERE application_name = 'everturn' AND datname = current_database()
    )
    SELECT pg_terminate_backend(pid) FROM mine WHERE place = {} % many
"""


@pytest.mark.parametrize("how", ["immediate", pytest.param("fast", marks=pytest.mark.slow)])
def test_restart_in_the_middle_of_turns_loses_none(
    restarted: Site, own_server: Postgres, how: Literal["fast", "immediate"]
) -> None:
    running = [restarted.ask("say:60 every:25") for _ in range(6)]
    cases = [restarted.witnesses.new_case("say:4", streamed=number % 2 == 0) for number in range(10)]
    restarted.wait_for_words(running, 8)
    with meanwhile(lambda: own_server.restart(how)):
        answers = [restarted.insist(case) for case in cases]
    assert "database unavailable" in restarted.service.log_text(), "the restart was not noticed"
    check(restarted, running, list(zip(cases, answers, strict=True)))


@pytest.mark.parametrize(
    ("streams", "turns", "pause"), [(6, 10, 0.08), pytest.param(40, 150, 0.03, marks=pytest.mark.slow)]
)
def test_connections_that_end_at_random_lose_no_turn(restarted: Site, streams: int, turns: int, pause: float) -> None:
    chance, over = seeded(), threading.Event()

    def terminate() -> None:
        while not over.wait(chance.uniform(0.5, 1.5) * pause):
            restarted.witnesses.store.read(TERMINATE.format(chance.randrange(1000)))

    running = [restarted.ask("say:60 every:25") for _ in range(streams)]
    cases = [restarted.witnesses.new_case("say:4", streamed=number % 2 == 0) for number in range(turns)]
    restarted.wait_for_words(running, 8)
    with meanwhile(terminate):
        try:
            answers = [restarted.insist(case) for case in cases]
            for asking in running:
                asking.seen.result(60)
        finally:
            over.set()
    check(restarted, running, list(zip(cases, answers, strict=True)))
