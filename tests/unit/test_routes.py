"""The routes stand when the application does."""

from typing import Any

import pytest
from starlette.routing import Match

from service.config import Settings
from service.main import create_app


def test_no_request_makes_the_routes(monkeypatch: pytest.MonkeyPatch) -> None:
    """FastAPI would make those of a router with the first request that looks there, which then waits for it."""
    app = create_app(Settings(local_model="off"))

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a route is made by a request")

    monkeypatch.setattr("fastapi.routing.get_dependant", refuse)
    scope = {"type": "http", "method": "GET", "path": "/nowhere/at/all", "root_path": "", "headers": []}
    assert {router.matches(dict(scope))[0] for router in app.routes} == {Match.NONE}
