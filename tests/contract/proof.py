"""Holds the traffic of a row's checks against the row: what is written and was not seen."""

from collections.abc import Iterator
from typing import Any

from tests.api.steps import Json
from tests.contract.desk import Exchange
from tests.contract.page import Call, Parameter, Row


def unproven(row: Row, traffic: dict[Call, list[Exchange]], described: Json) -> list[str]:
    """Sentences about what the row says and its traffic, or the service's own description, does not show."""
    everything = [one for exchanges in traffic.values() for one in exchanges]
    return [
        *(f"{call} was never answered well" for call in row.calls if not _well(traffic[call])),
        *_statuses(row, everything),
        *_headers(row, everything),
        *_parameters(row, traffic, described),
        *_fields(row, traffic, described),
    ]


def _statuses(row: Row, everything: list[Exchange]) -> Iterator[str]:
    seen = {one.reply.status_code for one in everything}
    yield from (f"no answer was a {status}" for status in sorted(row.statuses - seen))
    yield from (f"an answer was a {status}" for status in sorted(row.never & seen))


def _headers(row: Row, everything: list[Exchange]) -> Iterator[str]:
    seen = {name.lower() for one in everything for name in (*one.reply.headers, *one.request.headers)}
    yield from (f"no header {name}" for name in sorted(row.headers) if name.lower() not in seen)
    types = {one.reply.headers.get("content-type", "").partition(";")[0] for one in everything}
    yield from (f"no answer in {name}" for name in sorted(row.types - types))


def _parameters(row: Row, traffic: dict[Call, list[Exchange]], described: Json) -> Iterator[str]:
    sent = [one.parameters for exchanges in traffic.values() for one in _well(exchanges)]
    for name, parameter in row.parameters.items():
        values = [given[name] for given in sent if name in given]
        if not values:
            yield f"?{name}= was not sent"
        yield from (
            f"?{name}={choice} was not sent" for choice in parameter.choices if [choice] not in [v[:1] for v in values]
        )
        if parameter.repeated and not [one for one in values if len(one) > 1]:
            yield f"?{name}= was not sent more than once"
        yield from _query_default(row, name, parameter, described)


def _query_default(row: Row, name: str, parameter: Parameter, described: Json) -> Iterator[str]:
    if parameter.default is None:
        return
    for call in row.calls:
        for known in operation_of(call, described).get("parameters", ()):
            if known["name"] == name:
                found = known["schema"].get("default")
                if _spelt(found) != parameter.default:
                    yield f"the default of ?{name}= is {found}"


def _fields(row: Row, traffic: dict[Call, list[Exchange]], described: Json) -> Iterator[str]:
    seen = {name for exchanges in traffic.values() for one in _well(exchanges) for name in one.names}
    yield from (f"no field {name}" for name in row.fields if name not in seen)
    for name, default in row.fields.items():
        if default is not None:
            found = [_body(call, described).get(name, {}).get("default") for call in row.calls]
            yield from (f"the default of {name} is {one}" for one in found if _spelt(one) != default)


def operation_of(call: Call, described: Json) -> Json:
    """How the service describes a call, whose parameters may have other names there. Raises LookupError."""
    for path, operations in described["paths"].items():
        if shape(path) == shape(call.path) and call.method.lower() in operations:
            found: Json = operations[call.method.lower()]
            return found
    raise LookupError(f"{call} is not described")


def shape(path: str) -> str:
    """A template without the names of its parameters."""
    return "/".join("{}" if part.startswith("{") else part for part in path.split("/"))


def _body(call: Call, described: Json) -> Json:
    """The fields of a call's body."""
    content = operation_of(call, described).get("requestBody", {}).get("content", {})
    empty: Json = {}
    schema: Json = next(iter(content.values()), empty).get("schema", {})
    if "$ref" in schema:
        schema = described["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    found: Json = schema.get("properties", {})
    return found


def _well(exchanges: list[Exchange]) -> list[Exchange]:
    return [one for one in exchanges if one.reply.status_code < 400]


def _spelt(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
