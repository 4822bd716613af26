"""The description of the API: whole, and true: generated requests get no server error and the answers described."""

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx2
import jsonschema_rs
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from llmock.testing import LLMockServer
from schemathesis import Case
from schemathesis.checks import not_a_server_error
from schemathesis.generation.feedback import FeedbackSources
from schemathesis.pytest._test_builder import build_operation_test
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from service.config import Settings
from service.main import create_app
from tests.api.steps import OPENAI
from tests.conftest import MakeDatabase, Running, admin_key_for, service_environment
from tests.servers.service import ROOT, Service

# The committed copy, which is quicker to have than a new one; a test proves that they are the same.
DESCRIBED: dict[str, Any] = json.loads((ROOT / "docs/openapi.json").read_text("utf-8"))
OPERATIONS = [
    pytest.param((path, method), id=f"{method.upper()} {path}")
    for path, operations in DESCRIBED["paths"].items()
    for method in operations
]
PUBLIC = {"/", "/health", "/health/ready", "/metrics"}
BINARY = {"application/octet-stream", "*/*"}
EXAMPLES = 5
LATER = (pytest.mark.slow, pytest.mark.other)
# Each database, and whether every boundary of every field is tried on it, as with the slow tests.
EXPOSED = [
    pytest.param(("postgres", False), id="postgres"),
    pytest.param(("postgres", True), id="postgres to its boundaries", marks=LATER),
    pytest.param(("sqlite", True), id="sqlite to its boundaries", marks=LATER),
]


@pytest.mark.parametrize("place", OPERATIONS)
def test_each_operation_tells_all_that_a_caller_needs(place: tuple[str, str]) -> None:
    path, method = place
    operation = DESCRIBED["paths"][path][method]
    assert operation["summary"]
    assert operation["description"], "Give the route's function a docstring."
    assert operation["tags"]
    assert set(operation["tags"]) <= {tag["name"] for tag in DESCRIBED["tags"]}, "Describe its tag in api/describe.py."
    assert operation["operationId"]
    replies = operation["responses"]
    assert [status for status in replies if status.startswith("2")]
    if path in PUBLIC:
        return
    assert {"key": []} in operation["security"]
    assert {"x-api-key": []} in operation["security"]
    assert {"401", "403", "422", "503"} <= set(replies)
    for status, reply in replies.items():
        if status.startswith(("4", "5")):
            assert list(reply["content"]) == ["application/problem+json"], status
    if "429" in replies:
        told = [set(reply["headers"]) for status, reply in replies.items() if status in ("200", "201", "429")]
        assert all({"RateLimit-Policy", "RateLimit"} <= names for names in told)
        assert "Retry-After" in replies["429"]["headers"]
    if "{" in path:
        assert "404" in replies
    if "requestBody" in operation:
        assert "413" in replies
        [(kind, body)] = operation["requestBody"]["content"].items()
        if kind == "application/json":
            assert "415" in replies
            assert example_of(body["schema"]), "Give the body's model an example."


@pytest.mark.parametrize("place", OPERATIONS)
def test_its_examples_fit_what_they_show(place: tuple[str, str]) -> None:
    path, method = place
    operation = DESCRIBED["paths"][path][method]
    parts = {"request": operation.get("requestBody", {})} | operation["responses"]
    shown = [(name, kind, body) for name, part in parts.items() for kind, body in part.get("content", {}).items()]
    for name, kind, body in shown:
        assert "example" in body or kind in BINARY, f"{name} {kind}"
        if kind.endswith("json"):
            whole = {**body["schema"], "components": DESCRIBED["components"]}
            mistakes = [error.message for error in jsonschema_rs.validator_for(whole).iter_errors(body["example"])]
            assert not mistakes, f"the example of {name} does not fit: {mistakes}"
        if kind == "application/problem+json":
            assert body["example"]["status"] == int(name)
    assert any(name == "204" or name.startswith("2") for name, _, _ in shown) or "204" in parts


def test_no_two_paths_are_the_same_but_for_their_names() -> None:
    shapes = [re.sub(r"{\w+}", "{}", path) for path in DESCRIBED["paths"]]
    assert len(set(shapes)) == len(shapes)
    for path, operations in DESCRIBED["paths"].items():
        for operation in operations.values():
            named = [one["name"] for one in operation.get("parameters", ()) if one["in"] == "path"]
            assert sorted(named) == sorted(re.findall(r"{(\w+)}", path))


def example_of(schema: Any) -> Any:
    """The example of a body, or of the one that it is unless it is left out."""
    options = [schema, *schema.get("anyOf", ())]
    names = [one["$ref"].rpartition("/")[2] for one in options if "$ref" in one]
    return next(DESCRIBED["components"]["schemas"][name].get("example") for name in names)


def test_a_key_comes_in_either_of_two_headers() -> None:
    schemes = DESCRIBED["components"]["securitySchemes"]
    assert schemes["key"]["scheme"] == "bearer"
    assert (schemes["x-api-key"]["in"], schemes["x-api-key"]["name"]) == ("header", "x-api-key")


def test_the_committed_copy_is_this_description() -> None:
    """So that a change of the contract is seen in the commit that makes it."""
    now = create_app(Settings(local_model="off")).openapi()
    assert json.loads(json.dumps(now)) == DESCRIBED, "The API has changed. Look at it and write it: make openapi"


def test_names_of_operations_are_unique() -> None:
    names = [one["operationId"] for operations in DESCRIBED["paths"].values() for one in operations.values()]
    assert len(set(names)) == len(names)


class Exposed(NamedTuple):
    """A service, and the schema by which requests to it are generated."""

    service: Running
    schema: BaseSchema


@pytest.fixture(scope="module", params=EXPOSED)
def exposed(
    request: pytest.FixtureRequest,
    make_database: MakeDatabase,
    llmock_server: LLMockServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Exposed]:
    """A service of its own: what is sent there with an admin key may delete anything."""
    kind, thorough = request.param
    schema = schemathesis.openapi.from_dict(DESCRIBED)
    schema.config.phases.coverage.enabled = thorough
    with make_database(kind) as url:
        key = admin_key_for(url)
        with Service(service_environment(url, llmock_server), tmp_path_factory.mktemp("exposed")) as service:
            yield Exposed(Running(service, url, key), schema)


@pytest.fixture
def key(exposed: Exposed) -> str:
    """The key of an admin who is new, so that it holds whatever was deleted before."""
    return admin_key_for(exposed.service.database_url)


@pytest.fixture
def real(exposed: Exposed, key: str) -> dict[str, Any]:
    """A thing of each kind, by the names that parameters have."""
    with httpx2.Client(base_url=exposed.service.url, headers={"x-api-key": key}, verify=False) as client:
        asked = {"model": OPENAI, "messages": [{"role": "user", "content": "Hello?"}]}
        answer = client.post("/chat/completions", json=asked).json()
        spare = client.post("/users/me/keys", json={}).json()
        # One of its own: what is switched off here answers nobody any more.
        model = client.post("/models", json={"id": f"spare-{spare['id']}", "provider": "openai"}).json()
        assert client.put("/files/notes/milk.txt", content=b"Remember the milk.").is_success
    named = {"key_id": spare["id"], "user_id": "me", "model_id": model["id"], "path": "notes/milk.txt"}
    return {**answer, **named}


@pytest.mark.parametrize("place", OPERATIONS)
def test_generated_requests_get_the_answers_that_are_described(
    place: tuple[str, str], exposed: Exposed, key: str, real: dict[str, Any]
) -> None:
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    def ask(case: Case[Any]) -> None:
        for name, value in (case.path_parameters or {}).items():
            # Every other time something that is there: a number out of nowhere names nothing.
            if len(str(value)) % 2 and name in real:
                case.path_parameters[name] = real[name]
        reply = case.call(base_url=exposed.service.url, headers={"x-api-key": key})
        case.validate_response(
            reply,
            checks=[
                not_a_server_error,
                status_code_conformance,
                content_type_conformance,
                response_schema_conformance,
            ],
        )

    path, method = place
    # What `schema.parametrize()` does, but here, not while tests are collected: it takes seconds.
    build_operation_test(
        config=exposed.schema.config,
        operation=exposed.schema[path][method],
        test_func=ask,
        given_kwargs={},
        feedback=FeedbackSources(),
    )()
