"""Houses for crash points, and the report of what they came to."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from sqlalchemy.engine import make_url

from tests.conftest import Kind, MakeDatabase, admin_key_for
from tests.crash.trials import House, open_house

REPORT = pytest.StashKey[list[str]]()
MakeHouse = Callable[[], House]


@pytest.fixture(params=["sqlite", "postgres"])
def kind(request: pytest.FixtureRequest) -> Kind:
    named: Kind = request.param
    return named


@pytest.fixture
def make_house(
    kind: Kind, make_database: MakeDatabase, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MakeHouse]:
    """Makes houses on databases of their own, which stand until the end of the test."""
    with ExitStack() as stack:

        def make() -> House:
            url = stack.enter_context(make_database(kind))
            server = None if kind == "sqlite" else make_url(url).port
            folder = tmp_path_factory.mktemp("house")
            return stack.enter_context(open_house(url, admin_key_for(url), folder, server=server))

        yield make


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Says a line at the end of the run."""
    lines = request.config.stash.setdefault(REPORT, [])
    return lines.append


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if lines := config.stash.get(REPORT, []):
        terminalreporter.section("crash points")
        for line in lines:
            terminalreporter.line(line)
