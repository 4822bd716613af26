"""What stands in the Dockerfile, docker-compose.yml, Makefile and docs/settings.md fits the service."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import AliasChoices
from pydantic_settings import BaseSettings

from service.config import ModelSettings, ProviderSettings, Settings

ROOT = Path(__file__).resolve().parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")
COMPOSE_TEXT = (ROOT / "docker-compose.yml").read_text("utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load(COMPOSE_TEXT)
SERVICES: dict[str, Any] = COMPOSE["services"]
SETTINGS_PAGE = (ROOT / "docs/settings.md").read_text("utf-8")
OURS = ("service", "migrate")


def instructions() -> Iterator[tuple[str, str]]:
    """The Dockerfile's instructions and what follows them, continued lines joined."""
    joined = re.sub(r"\\\n\s*", " ", DOCKERFILE)
    for line in joined.splitlines():
        if line.strip() and not line.startswith("#"):
            name, _, rest = line.partition(" ")
            yield name, rest


INSTRUCTIONS = list(instructions())
LAST_STAGE = INSTRUCTIONS[max(i for i, (name, _) in enumerate(INSTRUCTIONS) if name == "FROM") :]


def names(field: str) -> list[str]:
    """The variables that set a field, the strongest first."""
    alias = Settings.model_fields[field].validation_alias
    return [str(name) for name in alias.choices] if isinstance(alias, AliasChoices) else [f"EVERTURN_{field.upper()}"]


def default_of(field: str) -> str:
    value = Settings.model_fields[field].default
    return "" if value is None or value == () else f"`{value}`"


def rows() -> list[str]:
    """The table of docs/settings.md, as the code has it."""
    return [
        f"| {' or '.join(f'`{name}`' for name in names(field))} | {default_of(field)} | {info.description} |"
        for field, info in Settings.model_fields.items()
    ]


KNOWN = {name for field in Settings.model_fields for name in names(field)}


def test_settings_page_is_the_code() -> None:
    table = [line for line in SETTINGS_PAGE.splitlines() if line.startswith("| `")]
    assert table == rows(), "docs/settings.md differs; its table should read:\n" + "\n".join(rows())


def test_settings_page_examples_are_valid() -> None:
    providers, models = map(json.loads, re.findall(r"```json\n(.*?)\n```", SETTINGS_PAGE, re.DOTALL))
    assert [ProviderSettings.model_validate(one) for one in providers]
    assert [ModelSettings.model_validate(one) for one in models]


def test_origins_are_split_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERTURN_CORS_ORIGINS", "https://a.example, https://b.example")
    assert Settings().cors_origins == ("https://a.example", "https://b.example")


def test_every_setting_is_described() -> None:
    assert issubclass(Settings, BaseSettings)
    for field, info in Settings.model_fields.items():
        assert info.description, f"{field} has no description"
        assert info.description.endswith("."), f"the description of {field} is no sentence"


@pytest.mark.parametrize("page", ["Dockerfile", "docker-compose.yml", "README.md", "CONTRIBUTING.md"])
def test_variables_exist(page: str) -> None:
    used = set(re.findall(r"\bEVERTURN_[A-Z][A-Z_]+[A-Z]\b", (ROOT / page).read_text("utf-8")))
    unknown = used - KNOWN - {"EVERTURN_TEST_DATABASE_URL"}
    assert not unknown, f"{page} names variables that nobody reads: {unknown}"


def test_compose_hands_the_service_what_it_reads() -> None:
    for name in OURS:
        unknown = set(SERVICES[name]["environment"]) - KNOWN
        assert not unknown, f"{name} is given variables that it does not read: {unknown}"
    keys = {name for name in KNOWN if name.endswith("_API_KEY") and not name.startswith("EVERTURN_")}
    assert keys <= set(SERVICES["service"]["environment"]), "a provider's key is not passed on"


def test_image_runs_as_nobody() -> None:
    users = [rest for name, rest in LAST_STAGE if name == "USER"]
    assert users, "the image runs as root"
    uid = users[-1].split(":")[0]
    assert uid.isdecimal(), "a name cannot be checked by runAsNonRoot: give a number"
    assert int(uid) > 0


def test_image_is_asked_whether_it_is_ready() -> None:
    [check] = [rest for name, rest in LAST_STAGE if name == "HEALTHCHECK"]
    command = json.loads(check[check.index("CMD ") + 4 :])
    assert command[0] == "python", "a slim image has no curl"
    assert "/health/ready" in command[2]
    compile(command[2], "HEALTHCHECK", "exec")


def test_health_check_fails_where_nothing_answers() -> None:
    [check] = [rest for name, rest in LAST_STAGE if name == "HEALTHCHECK"]
    _, *arguments = json.loads(check[check.index("CMD ") + 4 :])
    environment = os.environ | {"EVERTURN_PORT": "1"}
    done = subprocess.run(["python3", *arguments], env=environment, capture_output=True, check=False)
    assert done.returncode == 1
    assert b"URLError" in done.stderr


def test_image_is_built_from_what_is_there() -> None:
    sources = [s for name, rest in INSTRUCTIONS if name == "COPY" and "--from" not in rest for s in rest.split()[:-1]]
    assert sources
    for source in sources:
        assert (ROOT / source).exists(), f"the Dockerfile copies {source}, which is not there"
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line.startswith("!")}
    assert let_in == set(sources), ".dockerignore lets in what the Dockerfile copies, and nothing else"


def test_image_holds_the_locked_packages_only() -> None:
    syncs = [rest for name, rest in INSTRUCTIONS if name == "RUN" and "uv sync" in rest]
    assert syncs
    for sync in syncs:
        assert {"--locked", "--no-dev"} <= set(sync.split())
    assert "--no-editable" in syncs[-1], "an editable install points into the build stage"
    assert ("CMD", '["everturn", "serve"]') in LAST_STAGE


def test_nothing_secret_is_baked_in() -> None:
    for name, rest in INSTRUCTIONS:
        if name in {"ENV", "ARG"}:
            found = re.search(r"\w*(KEY|PEPPER|PASSWORD|SECRET|TOKEN|DATABASE_URL)\w*", rest)
            assert found is None, f"{found} is set in the image, where everybody can read it"
    for name in ("POSTGRES_PASSWORD", "EVERTURN_PEPPER"):
        used = re.findall(rf"\$\{{{name}[^}}]*\}}", COMPOSE_TEXT)
        assert used, f"{name} is not asked for"
        assert all(one.startswith(f"${{{name}:?") for one in used), f"{name} must be given: write ${{{name}:?…}}"
    for service in SERVICES.values():
        for name, value in service["environment"].items():
            if re.search(r"KEY|PEPPER|PASSWORD", name):
                assert value is None or value.startswith("${"), f"{name} has a value in docker-compose.yml"


@pytest.mark.parametrize("name", SERVICES)
def test_containers_gain_no_privileges(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service


@pytest.mark.parametrize("name", OURS)
def test_containers_may_do_little(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["tmpfs"] == ["/tmp"], "multi-process metrics and uploads need a place while the root is read-only"
    assert "cap_add" not in service


def test_service_waits_for_the_database_and_the_migration() -> None:
    assert int(SERVICES["postgres"]["image"].removeprefix("postgres:")) >= 17
    check = SERVICES["postgres"]["healthcheck"]["test"]
    assert "pg_isready" in check
    assert "--host=127.0.0.1" in check, "the socket answers while the database is still being made, TCP does not"
    assert SERVICES["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    assert SERVICES["migrate"]["command"] == ["everturn", "migrate"]
    assert SERVICES["migrate"]["restart"] == "no", "a migration that failed is looked at, not repeated"
    assert SERVICES["service"]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}
    assert SERVICES["service"]["restart"] == "unless-stopped"


def test_service_has_time_to_drain() -> None:
    service = SERVICES["service"]
    grace = int(service["stop_grace_period"].removesuffix("s"))
    given = re.fullmatch(r"\$\{EVERTURN_DRAIN_SECONDS:-(\d+)\}", service["environment"]["EVERTURN_DRAIN_SECONDS"])
    assert given
    assert int(given[1]) == Settings.model_fields["drain_seconds"].default
    assert grace > 2 * int(given[1]), "requests end first, then the turns: each may take as long as the drain"


def test_service_is_not_open_to_the_network() -> None:
    assert SERVICES["service"]["ports"] == ["${PUBLISH:-127.0.0.1:8000}:8000"]
    assert "ports" not in SERVICES["postgres"]


def test_make_lists_its_commands() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    listed = subprocess.run(["make"], cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout
    for target in ("run", "test", "check", "bench", "torture", "format", "lock", "clean", "migrate"):
        assert re.search(rf"^make {target} +\w", listed, re.MULTILINE), f"make does not list {target}"


def test_continuous_integration_runs_what_people_run() -> None:
    script = ROOT / ".ci/run"
    assert os.access(script, os.X_OK)
    text = script.read_text("utf-8")
    assert "set -euo pipefail" in text
    assert re.search(r"^make test$", text, re.MULTILINE)
    assert re.search(r"^make check$", text, re.MULTILINE)


def test_lock_names_the_public_index_only() -> None:
    registries = set(re.findall(r'registry = "([^"]+)"', (ROOT / "uv.lock").read_text("utf-8")))
    assert registries == {"https://pypi.org/simple"}, (
        "lock again: make lock ARGS='--default-index https://pypi.org/simple'"
    )
