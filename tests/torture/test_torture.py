"""The torture itself, on both databases: short enough to be run with the slow tests, the whole of it by hand."""

import asyncio
from pathlib import Path

import pytest

from tests.syntax import Module, imported
from torture.checker import judge
from torture.conduct import run
from torture.evidence import load
from torture.plan import KINDS, Kind, Plan
from torture.report import report

ROOT = Path(__file__).resolve().parents[2]
SEED = 20261125
SECONDS = 75


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", KINDS)
def test_tortured_service_keeps_its_promises(kind: Kind, tmp_path: Path) -> None:
    asyncio.run(run(Plan(kind=kind, seed=SEED, turns=10**6, seconds=SECONDS), tmp_path))
    evidence = load(tmp_path)
    assert sum(row.spans is not None for row in evidence.events) >= 100, "hardly a journal was folded"
    verdict = judge(evidence)
    assert not verdict.findings, report(verdict, f"{kind}, seed {SEED}")
    assert verdict.turns >= 200, report(verdict, "too slow to say anything")
    assert verdict.hits.total() >= 15, report(verdict, "too gentle to say anything")


def test_nothing_of_the_service_judges_the_service() -> None:
    """The service is tortured from outside: neither the checker nor what starts the processes imports it."""
    servers = [ROOT / "tests" / "servers" / name for name in ("postgres.py", "service.py")]
    paths = [*(ROOT / "torture").rglob("*.py"), *servers]
    modules = [Module(path.name, path.read_text("utf-8")) for path in paths]
    names = {(module.name, name) for module in modules for name in imported(module)}
    assert {where for where, _ in names} >= {"checker.py", "turns.py", "evidence.py"}
    foreign = ("service.", "migrations.", "tests.")
    assert {name for _, name in names if f"{name}.".startswith(foreign)} <= {
        "tests.servers",
        "tests.servers.postgres",
        "tests.servers.service",
    }
