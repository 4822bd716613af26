"""Every route says who may use it, exactly once."""

from collections.abc import Iterator

from fastapi.dependencies.models import Dependant
from fastapi.routing import iter_route_contexts

from service.api.deps import AdminPolicy, MetricsPolicy, Policy, PublicPolicy
from service.config import Settings
from service.main import create_app

POLICIES = (AdminPolicy, MetricsPolicy, Policy, PublicPolicy)
# FastAPI's own; it holds nothing that a repository of the source does not.
WITHOUT = {"/openapi.json"}


def policies(dependant: Dependant) -> Iterator[object]:
    for one in dependant.dependencies:
        if isinstance(one.call, POLICIES):
            yield one.call
        yield from policies(one)


def routes() -> dict[str, set[object]]:
    found = {}
    for route in iter_route_contexts(create_app(Settings(local_model="off")).routes):
        if route.path not in WITHOUT:
            name = f"{' '.join(sorted(route.methods or ()))} {route.path}"
            found[name] = set(policies(route.dependant))
    return found


def test_each_route_declares_one_policy() -> None:
    wrong = [name for name, declared in routes().items() if len(declared) != 1]
    assert not wrong, f"Give each of these one of public, admin_only, allow(…) from api/deps.py: {wrong}"


def test_only_the_service_itself_is_public() -> None:
    public = {name for name, declared in routes().items() if any(isinstance(one, PublicPolicy) for one in declared)}
    allowed = {"/", "/health", "/health/ready", "/docs", "/redoc", "/docs/assets/{name}", "/web/{asset}"}
    assert {name.partition(" ")[2] for name in public} <= allowed


def test_what_changes_something_takes_more_than_reading() -> None:
    for name, declared in routes().items():
        if not name.startswith("GET"):
            assert Policy("read") not in declared, name
