"""The checker finds what is planted: each broken promise, put into the evidence of a run that kept them all."""

from dataclasses import replace

import pytest

from tests.torture import plants_of_accounts, plants_of_turns
from tests.torture.plants import PLANTED, Plant, call_of
from torture.checker import judge
from torture.evidence import Evidence, Fault

# They plant when they are imported.
FIELDS = (plants_of_turns, plants_of_accounts)


def test_calm_run_breaks_no_promise(evidence: Evidence) -> None:
    verdict = judge(evidence)
    assert verdict.findings == []
    assert verdict.turns >= 70
    assert len(verdict.modes) >= 15


@pytest.mark.parametrize(("kind", "says", "plant"), PLANTED, ids=[plant.__name__ for _, _, plant in PLANTED])
def test_planted_violation_is_found(evidence: Evidence, kind: str, says: str, plant: Plant) -> None:
    plant(evidence)
    found = [finding.what for finding in judge(evidence).findings if finding.kind == kind]
    assert any(says in what for what in found), judge(evidence).findings


def test_plants_are_many() -> None:
    assert len(PLANTED) > 40
    assert {plant.__module__ for _, _, plant in PLANTED} == {field.__name__ for field in FIELDS}


def test_a_fault_counts_as_a_hit_while_a_call_is_open_on_its_target(evidence: Evidence) -> None:
    call = replace(call_of(evidence), t=10.0, until=11.0, worker="worker-1")
    evidence.calls[:] = [call]
    evidence.exchanges.clear()
    targets = [(10.5, "worker-1"), (10.5, "worker-2"), (11.5, "worker-1"), (10.5, "all"), (9.5, "database")]
    evidence.faults[:] = [Fault(t, f"{t} {target}", target) for t, target in targets]
    assert set(judge(evidence).hits) == {"10.5 worker-1", "10.5 all"}
