"""The ways to serve: `everturn serve`, `uvicorn service.main:app` and several workers, on an embedded database."""

import json
import re
import shlex
import stat
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from signal import SIGTERM

import httpx2
import pytest
from llmock.pytest_plugin import LLMock
from llmock.scenarios import Match, Reply
from llmock.testing import LLMockServer

from tests.api.steps import ask_anew, call, ended, stream, text_of, watch
from tests.conftest import MakeDatabase, Running, admin_key_for, service_environment
from tests.patience import until
from tests.servers.service import EVERTURN, UVICORN, Service

SERVE = (*EVERTURN, "serve")
KEY = re.compile(r"evt_\d+_\w+")
# A service that starts asks for the list of models too, which would take a scripted answer.
ASKED = Match(path="/v1/chat/completions")


@pytest.fixture
def environment(llmock_server: LLMockServer, tmp_path: Path) -> dict[str, str]:
    """Settings with an embedded database in a new directory, whose pepper the service makes itself."""
    played = service_environment("", llmock_server)
    kept = {name: value for name, value in played.items() if name not in ("EVERTURN_DATABASE_URL", "EVERTURN_PEPPER")}
    return {**kept, "EVERTURN_DATA_DIR": str(tmp_path / "data"), "EVERTURN_DEFAULT_MODEL": "gpt-4.1-mini"}


def test_the_first_start_prints_a_key_once_and_a_curl_that_works(
    environment: dict[str, str], tmp_path: Path, llmock: LLMock
) -> None:
    llmock.add(Reply(text="Hello from the model.", match=ASKED))
    with Service(environment, tmp_path) as service:
        said = service.log_text()
        assert len(set(KEY.findall(said))) == 1
        command = said[said.index("curl ") : said.index("Look around")].strip()
        done = subprocess.run(
            [*shlex.split(command.replace("\\\n", " ")), "--silent"],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        assert json.loads(done.stdout)["content"] == "Hello from the model."
        assert service.stop() == 0
        before = len(service.log_text())
        service.start()
        assert not KEY.search(service.log_text()[before:])
    data = tmp_path / "data"
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in data.iterdir()} == {0o600}
    assert {"pepper", "everturn.db"} <= {file.name for file in data.iterdir()}


@pytest.fixture
def migrated(make_database: MakeDatabase, llmock_server: LLMockServer) -> Iterator[tuple[dict[str, str], str]]:
    """Settings with a database that has a schema and an admin, and the admin's key."""
    with make_database("sqlite") as url:
        yield service_environment(url, llmock_server), admin_key_for(url)


@pytest.mark.parametrize(
    ("command", "code"),
    [
        pytest.param(UVICORN, -SIGTERM, id="uvicorn"),
        pytest.param((*UVICORN, "--workers", "2"), 0, id="uvicorn with two workers"),
        pytest.param((*SERVE, "--workers", "2"), 0, id="everturn with two workers"),
    ],
)
@pytest.mark.usefixtures("llmock")
async def test_each_way_serves(
    migrated: tuple[dict[str, str], str], tmp_path: Path, command: Sequence[str], code: int
) -> None:
    environment, key = migrated
    with Service(environment, tmp_path, command=command) as service:
        async with httpx2.AsyncClient(base_url=service.url, headers={"x-api-key": key}, verify=False) as client:
            answer = await ask_anew(client, "Hello?")
            record = await call(client, "GET", f"/completions/{answer['completion_id']}", expect=200)
            assert (record["content"], record["status"]) == (answer["content"], "completed")
            metrics = await client.get("/metrics")
            assert 'route="/chat/completions",status="201"} 1.0' in metrics.text
        # uvicorn alone ends as killed after its clean end.
        assert service.stop() == code


async def test_a_stop_waits_for_the_running_answers(
    environment: dict[str, str], tmp_path: Path, llmock: LLMock
) -> None:
    llmock.pace(60).add(Reply(text="One two three four five six seven eight nine ten.", match=ASKED))
    with Service(environment, tmp_path) as service:
        key = KEY.findall(service.log_text())[0]
        async with httpx2.AsyncClient(base_url=service.url, headers={"x-api-key": key}, verify=False) as client:
            async with client.stream("POST", "/chat/stream", json={"prompt": "Count!"}) as reply:
                events = watch(reply.aiter_lines())
                assert [(await anext(events)).name for _ in range(2)] == ["completion", "message"]
            service.terminate()
            assert service.wait() == 0
            service.start()
            record = await ended(client, "/completions")
            assert (record["status"], record["content"]) == (
                "completed",
                "One two three four five six seven eight nine ten.",
            )


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_second_signal_ends_the_grace(
    environment: dict[str, str], tmp_path: Path, llmock: LLMock, workers: str
) -> None:
    llmock.pace(600).add(Reply(text=" ".join(f"w{number}" for number in range(60)), match=ASKED))
    own = {"EVERTURN_DRAIN_SECONDS": "40", "EVERTURN_WORKERS": workers}
    with Service({**environment, **own}, tmp_path) as service:
        key = KEY.findall(service.log_text())[0]
        async with httpx2.AsyncClient(base_url=service.url, headers={"x-api-key": key}, verify=False) as client:
            async with client.stream("POST", "/chat/stream", json={"prompt": "Count!"}) as reply:
                events = watch(reply.aiter_lines())
                assert [(await anext(events)).name for _ in range(2)] == ["completion", "message"]
                service.terminate()

                async def drains() -> bool:
                    return (await client.get("/health/ready")).status_code == 503

                await until(drains, "readiness to say that it drains")
                began = time.monotonic()
                service.terminate()
                assert [event.name async for event in events][-1] == "error"
            assert service.wait() == 0
            assert time.monotonic() - began < 15
            service.start()
            record = await ended(client, "/completions")
            assert (record["status"], record["content"][:2]) == ("incomplete", "w0")


async def test_the_pages_for_people(running_service: Running) -> None:
    async with httpx2.AsyncClient(base_url=running_service.url, verify=False) as client:
        shown = await call(client, "GET", "/", expect=200)
        assert shown["name"] == "Everturn"
        for link in shown["links"].values():
            assert (await client.get(link)).status_code == 200
        page = await client.get("/", headers={"Accept": "text/html,application/xhtml+xml"})
        assert page.headers["content-type"].startswith("text/html")
        assert await call(client, "GET", "/health", expect=200) == {"status": "healthy"}
        for path in ("/docs", "/redoc"):
            html = (await client.get(path)).text
            assert "http://" not in html
            assert "https://" not in html
            for asset in re.findall(r'(?:src|href)="(/[^"]*)"', html):
                assert (await client.get(asset)).status_code == 200


@pytest.mark.local_model
async def test_the_model_on_this_machine_answers_and_is_stored(tmp_path: Path) -> None:
    environment = {"EVERTURN_DATA_DIR": str(tmp_path / "data"), "EVERTURN_LOCAL_MODEL": "on"}
    with Service(environment, tmp_path) as service:
        key = KEY.findall(service.log_text())[0]
        async with httpx2.AsyncClient(
            base_url=service.url, headers={"x-api-key": key}, timeout=120, verify=False
        ) as client:
            body = {
                "messages": [{"role": "user", "content": "What is the capital of France?"}],
                "temperature": 0,
                "max_tokens": 24,
            }
            answer = await call(client, "POST", "/chat/completions", body, expect=201)
            assert (answer["provider"], answer["cost_usd"]) == ("local", "0")
            assert len(answer["content"].split()) > 3
            events = await stream(client, "/chat/stream", {"prompt": "Say hello.", "max_tokens": 12})
            assert text_of(events).strip()
            record = await call(client, "GET", f"/completions/{events[0].data['completion_id']}", expect=200)
            assert record["content"] == text_of(events)
            assert 0 < record["usage"]["output_tokens"] <= 12
