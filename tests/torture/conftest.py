"""The evidence of a short, calm run of the real thing, for tests that spoil it."""

import asyncio
from pathlib import Path

import pytest

from torture.conduct import run
from torture.evidence import Evidence, load
from torture.plan import Plan

CALM = Plan(kind="sqlite", seed=11, turns=70, seconds=60, workers=2, talkers=14, every=0)


@pytest.fixture(scope="session")
def calm_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run in peace leaves behind: two workers, odd providers, restless clients, no faults."""
    folder = tmp_path_factory.mktemp("calm")
    asyncio.run(run(CALM, folder))
    return folder


@pytest.fixture
def evidence(calm_folder: Path) -> Evidence:
    """The same, read anew, so that a test may spoil it."""
    return load(calm_folder)
