"""The service that the tests of a module share."""

from collections.abc import Iterator

import pytest
from llmock.testing import LLMockServer

from tests.conftest import KINDS, MakeDatabase
from tests.files.shelves import Shelf, shelf


@pytest.fixture(scope="module", params=KINDS)
def place(
    request: pytest.FixtureRequest,
    make_database: MakeDatabase,
    llmock_server: LLMockServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Shelf]:
    """One for all tests of a module that do not stop it, with the module's LIMITS where it has some."""
    limits = getattr(request.module, "LIMITS", {})
    with shelf(make_database, llmock_server, tmp_path_factory.mktemp("files"), kind=request.param, **limits) as made:
        yield made
