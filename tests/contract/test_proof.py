"""The proof itself: what is planted on a page and not answered so is found, each by its own sentence."""

import pytest

from tests.api.steps import call
from tests.contract.desk import CHECKS, Desk
from tests.contract.page import Call, Parameter, read_rows
from tests.contract.proof import unproven
from tests.contract.test_contract import CALLS

HEAD = "## X\n| call | answer |\n|---|---|\n"
MODELS = "`GET /models` and `GET /models/list` `?provider=&skip=0&limit=10`"
COMPLETION = '`{model, messages, temperature=0.7 (0–2), stream=false}` → 201 `{"id": "msg_1"}`'


@pytest.mark.parametrize(
    ("checked", "row", "said"),
    [
        ("GET /models", f"| {MODELS} | page of `{{id, name}}` |", []),
        ("GET /models", "| `GET /models` `GET /model` | page |", ["GET /model was never answered well"]),
        ("GET /models", "| `GET /models?colour=` | page |", ["?colour= was not sent"]),
        ("GET /models", "| `GET /models?provider=openai\\|anthropic` | page |", ["?provider=openai was not sent"]),
        ("GET /models", "| `GET /models?provider=a&provider=b` | page |", ["?provider= was not sent more than once"]),
        ("GET /models", "| `GET /models?limit=11` | page |", ["the default of ?limit= is 10"]),
        ("GET /models", "| `GET /models` | page; 404 if unknown |", ["no answer was a 404"]),
        ("GET /models", "| `GET /models` | never a 200 |", ["an answer was a 200"]),
        ("GET /models", "| `GET /models` | with `X-Colour` and `Link` |", ["no header X-Colour"]),
        ("GET /models", "| `GET /models` | as `text/csv` |", ["no answer in text/csv"]),
        ("GET /models", "| `GET /models` | `{id, colour}` |", ["no field colour"]),
        ("POST /chat/completions", f"| `POST /chat/completions` | {COMPLETION} |", []),
        (
            "POST /chat/completions",
            f"| `POST /chat/completions` | {COMPLETION.replace('0.7', '0.8')} |",
            ["the default of temperature is 0.7"],
        ),
    ],
)
async def test_what_is_planted_is_found(desk: Desk, checked: str, row: str, said: list[str]) -> None:
    [planted] = read_rows(HEAD + row)
    await CHECKS[checked](desk)
    described = await call(desk.people.anonymous, "GET", "/openapi.json", expect=200)
    calls = [*CALLS, *(one for one in planted.calls if one not in CALLS)]
    traffic = {one: desk.of(one, calls) for one in planted.calls}
    assert unproven(planted, traffic, described | {"paths": {**described["paths"], "/model": {"get": {}}}}) == said


def test_a_page_is_read_as_it_is_written() -> None:
    page = (
        HEAD + "| `GET POST /users/{user_id}/keys`, `POST …/keys/{key_id}/rotate`, `DELETE …/keys/{key_id}` | 201 |\n"
        "| `POST /a/{id}/b`, `…/c` | admin. One, 404 if unknown; never a 500 |\n"
        "| `POST /models` `PATCH` `DELETE /models/{model_id}` | x |\n"
        "| `GET /d?x=1\\|2&y=3&z&w=a&w=b&v=(admin)&…` | x |\n"
    )
    keys, others, models, query = read_rows(page)
    assert [str(one) for one in keys.calls] == [
        "GET /users/{user_id}/keys",
        "POST /users/{user_id}/keys",
        "POST /users/{user_id}/keys/{key_id}/rotate",
        "DELETE /users/{user_id}/keys/{key_id}",
    ]
    assert [str(one) for one in others.calls] == ["POST /a/{id}/b", "POST /a/{id}/c"]
    assert (others.admin_only, set(others.statuses), set(others.never)) == (True, {404}, {500})
    assert [str(one) for one in models.calls] == [
        "POST /models",
        "PATCH /models/{model_id}",
        "DELETE /models/{model_id}",
    ]
    assert query.parameters == {
        "x": Parameter(choices=("1", "2")),
        "y": Parameter(default="3"),
        "z": Parameter(),
        "w": Parameter(repeated=True),
        "v": Parameter(),
    }
    assert Call("GET", "/models/{model_id}").fits("GET", "/models/a/b")
    assert not Call("GET", "/users/{user_id}").fits("GET", "/users/1/keys")


def test_a_call_that_is_not_understood_is_refused() -> None:
    with pytest.raises(ValueError, match="FETCH"):
        read_rows(f"{HEAD}| `FETCH /a` | x |\n")
