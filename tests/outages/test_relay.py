"""The line to Postgres cut, stopped up, closed for long, and losing the answer to what was committed."""

import time
from pathlib import Path

import pytest

from tests.outages.relay import Relay
from tests.outages.site import LEASE, Site, another_worker, check

MIB = 1024 * 1024


def test_cut_connections_lose_no_turn(relayed: Site, relay: Relay) -> None:
    running = [relayed.ask("say:40 every:20") for _ in range(5)]
    cases = [relayed.witnesses.new_case("say:4", streamed=number % 2 == 0) for number in range(6)]
    relayed.wait_for_words(running, 5)
    answers = []
    for case in cases:
        relay.cut()
        answers.append(relayed.insist(case))
    check(relayed, running, list(zip(cases, answers, strict=True)))


@pytest.mark.parametrize("words", ["begin", "event", "finish"])
@pytest.mark.parametrize("streamed", [True, False])
def test_answer_to_a_commit_is_lost(relayed: Site, relay: Relay, words: str, streamed: bool) -> None:
    """What was committed is met again by its second writing: nothing is doubled, nothing is missing."""
    if words == "event" and not streamed:
        pytest.skip("an answer in one piece has no event before its end")
    case = relayed.witnesses.new_case("say:6 every:30", streamed=streamed)
    place = {"begin": case.question, "event": ".2 ", "finish": '"provenance"'}[words]
    relay.trap(place.encode())
    answers = relayed.insist(case)
    assert relay.sprung.is_set(), "no such statement was seen"
    check(relayed, [], [(case, answers)])
    assert [seen.status for seen in answers] == [200 if streamed else 201]


def test_answer_to_a_transactions_commit_is_lost(relayed: Site, relay: Relay) -> None:
    """Whoever asks again with the same key gets what was made the first time."""
    ask, times = relayed.witnesses.ask, 8
    total = ask("GET", "/conversations?limit=1").json()["total"]
    replayed = 0
    for number in range(times):
        # Another transaction of the service's may come first, say one that takes ids.
        relay.trap(b"COMMIT")
        headers = {"Idempotency-Key": f"lost-{number}"}
        first = ask("POST", "/conversations", {"title": "Once"}, headers)
        assert relay.sprung.is_set()
        assert first.status in (201, 503), first
        again = ask("POST", "/conversations", {"title": "Once"}, headers)
        assert again.status == 201, again
        replayed += first.status == 503 and again.headers.get("idempotency-replayed") == "true"
    assert replayed > times / 2
    assert ask("GET", "/conversations?limit=1").json()["total"] == total + times


def test_new_turns_are_refused_while_the_database_is_away(relayed: Site, relay: Relay) -> None:
    """At once, and with the time after which to ask again; what runs goes on and is there afterwards."""
    running = [relayed.ask("say:40 every:25") for _ in range(4)] + [relayed.ask("say:3 every:900", streamed=False)]
    cases = [relayed.witnesses.new_case("say:4", streamed=number % 2 == 0) for number in range(4)]
    relayed.wait_for_words(running[:4], 5)
    relay.close()
    try:
        began = time.monotonic()
        refused = [relayed.witnesses.send(case) for case in cases]
        took = time.monotonic() - began
        assert relayed.service.status_of("/health/ready") == 503
        assert relayed.service.status_of("/health") == 200
    finally:
        relay.open()
    assert [seen.status for seen in refused] == [503] * len(cases)
    assert took < 2 * len(cases)
    answers = [[first, *relayed.insist(case)] for first, case in zip(refused, cases, strict=True)]
    check(relayed, running[:4], list(zip(cases, answers, strict=True)))
    assert relayed.judge(running[4:]) == []


@pytest.mark.slow
def test_frozen_line_delays_and_loses_nothing(relayed: Site, relay: Relay) -> None:
    """Connections stay open and nothing passes for five seconds: no error tells anybody."""
    running = [relayed.ask("say:60 every:20") for _ in range(5)]
    cases = [relayed.witnesses.new_case("say:4", streamed=number % 2 == 0) for number in range(6)]
    relayed.wait_for_words(running, 5)
    relay.freeze()
    try:
        asked = [relayed.clients.submit(relayed.insist, case) for case in cases]
        time.sleep(5)
    finally:
        relay.thaw()
    check(relayed, running, [(case, one.result(60)) for case, one in zip(cases, asked, strict=True)])


@pytest.mark.slow
def test_outage_longer_than_a_lease_ends_no_turn(relayed: Site, relay: Relay, tmp_path: Path) -> None:
    """Both workers live: each holds on to its turns as soon as the database is back, and the other lets it."""
    with another_worker(relayed, tmp_path) as other:
        running = [relayed.ask(f"say:{60 + 20 * number} every:25") for number in range(4)]
        others = [other.ask(f"say:{60 + 20 * number} every:25") for number in range(4)]
        relayed.wait_for_words([*running, *others], 5)
        relay.close()
        time.sleep(LEASE * 1.5)
        relay.open()
        check(relayed, [*running, *others], [])


@pytest.mark.slow
def test_what_comes_meanwhile_waits_in_bounded_memory(relayed: Site, relay: Relay) -> None:
    """The provider is not read any further once a turn has a megabyte that is not committed."""
    asking = relayed.ask("say:12000 long:2000 every:0")
    relayed.wait_for_words([asking], 50)
    relay.close()
    try:
        before, counts = relayed.memory(), [0, relayed.said(asking.case)]
        while counts[-1] != counts[-2]:
            time.sleep(1)
            counts.append(relayed.said(asking.case))
        grown = relayed.memory() - before
    finally:
        relay.open()
    # The rest is in the sockets between: the kernel's buffers take a few megabytes.
    assert counts[-1] * 2000 < 16 * MIB, "the provider was read to the end"
    assert grown < 24 * MIB
    check(relayed, [asking], [])
