"""The command line, as processes: what scripts read is alone on standard output."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from service.domain.keys import parse_token
from tests.porting import samples
from tests.porting.house import comparable
from tests.porting.samples import file_of

HEAVY = ("aiohttp", "alembic", "anthropic", "fastapi", "openai", "pydantic", "sqlalchemy", "uvicorn")


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "EVERTURN_DATA_DIR": str(tmp_path / "data"), "EVERTURN_LOCAL_MODEL": "off"}


def everturn(environment: dict[str, str], *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "service.cli", *arguments]
    return subprocess.run(
        command, env=environment, input=given, capture_output=True, text=True, timeout=60, check=False
    )


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from service.cli import app; "
        "reply = CliRunner().invoke(app, ['--help']); assert reply.exit_code == 0; assert 'serve' in reply.output; "
        f"sys.exit(' '.join(name for name in {HEAVY} if name in sys.modules) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_user_and_a_key_for_scripts(environment: dict[str, str]) -> None:
    user = everturn(environment, "users", "create", "--username", "ada", "--role", "admin", "--email", "a@example.org")
    number = int(user.stdout)
    assert user.stdout == f"{number}\n"
    key = everturn(environment, "keys", "create", "--user", "ADA", "--kind", "admin", "--days", "3")
    token = parse_token(key.stdout.strip())
    assert key.stdout == f"{token.text}\n"
    assert token.text not in key.stderr
    assert everturn(environment, "users", "list").stdout == f"{number}\tada\tadmin\ta@example.org\n"
    listed = everturn(environment, "keys", "list", "--user", str(number)).stdout
    assert listed.startswith(f"{token.id}\tadmin\tcomplete,provision,read,write\t")
    revoked = everturn(environment, "keys", "revoke", str(token.id))
    assert (revoked.returncode, revoked.stdout) == (0, "")


@pytest.mark.parametrize(
    ("changed", "arguments", "said"),
    [
        ({}, ("keys", "create", "--user", "nobody"), "There is no user 'nobody'."),
        ({}, ("keys", "create", "--user", "9" * 20), "There is no user '99999999999999999999'."),
        ({}, ("keys", "revoke", "7"), "There is no key 7."),
        ({}, ("users", "create", "--username", " "), "username: Only printable characters"),
        ({"EVERTURN_PEPPER": "short"}, ("users", "list"), "at least 32 characters"),
        ({"EVERTURN_PORT": "x"}, ("serve",), "port:"),
        ({"EVERTURN_DATABASE_URL": "mysql://localhost/x"}, ("migrate",), "sqlite or postgresql"),
        ({"EVERTURN_DATABASE_URL": "postgresql://localhost:1/x"}, ("users", "list"), "EVERTURN_PEPPER"),
        (
            {"EVERTURN_DATABASE_URL": "postgresql://localhost:1/x", "EVERTURN_PEPPER": "0123456789" * 4},
            ("users", "list"),
            "The database does not answer",
        ),
    ],
)
def test_a_failure_is_one_sentence(
    environment: dict[str, str], changed: dict[str, str], arguments: tuple[str, ...], said: str
) -> None:
    done = everturn(environment | changed, *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    last = done.stderr.splitlines()[-1]
    assert last.startswith("everturn: ")
    assert said in last
    assert "Traceback" not in done.stderr


def test_a_name_that_is_a_number_is_nobody_elses(environment: dict[str, str]) -> None:
    first = everturn(environment, "users", "create", "--username", "ada").stdout.strip()
    namesake = everturn(environment, "users", "create", "--username", first).stdout.strip()
    doubtful = everturn(environment, "keys", "create", "--user", first)
    assert (doubtful.returncode, doubtful.stdout) == (1, "")
    assert f"say 'ada' or {namesake}." in doubtful.stderr
    everturn(environment, "users", "create", "--username", "123")
    for user in ("ada", namesake, "123"):
        assert everturn(environment, "keys", "list", "--user", user).returncode == 0
    assert everturn(environment, "keys", "revoke", "9" * 20).returncode == 2


def test_the_api_is_described_without_a_database(environment: dict[str, str], tmp_path: Path) -> None:
    described = json.loads(everturn(environment, "openapi").stdout)
    assert "/users/{user_id}" in described["paths"]
    assert not (tmp_path / "data").exists()


def test_conversations_go_in_and_out_by_files_and_pipes(environment: dict[str, str], tmp_path: Path) -> None:
    for name in ("ada", "bob"):
        assert everturn(environment, "users", "create", "--username", name).returncode == 0
    folder = tmp_path / "chatgpt"
    folder.mkdir()
    for number in range(2):
        (folder / f"conversations-{number:03}.json").write_bytes(file_of(samples.chatgpt(f"c-{number}")))
    (folder / "user.json").write_text("{}")
    done = everturn(environment, "import", str(folder), "--user", "ada")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert (done.returncode, done.stderr) == (0, "")
    assert [line["item"]["outcome"] for line in lines if "item" in line] == ["imported", "imported"]
    export = everturn(environment, "export", "--user", "ada").stdout
    listed = json.loads(everturn(environment, "export", "--user", "ada", "--format", "chatgpt").stdout)
    assert [one["id"] for one in listed] == ["c-0", "c-1"]
    assert everturn(environment, "export", "--user", "bob", "--format", "chatgpt").stdout == "[]\n"
    done = everturn(environment, "import", "-", "--user", "bob", given=export)
    assert json.loads(done.stdout.splitlines()[-1])["summary"]["outcomes"] == {"imported": 2, "skipped": 1}
    again = everturn(environment, "export", "--user", "bob").stdout
    assert comparable(again.encode()) == comparable(export.encode())


@pytest.mark.parametrize("content", ["<html>", None])
def test_an_import_that_fails_says_so_with_its_exit_code(
    environment: dict[str, str], tmp_path: Path, content: str | None
) -> None:
    everturn(environment, "users", "create", "--username", "ada")
    path = tmp_path / "file.json"
    if content is not None:
        path.write_text(content)
    done = everturn(environment, "import", str(path), "--user", "ada")
    assert done.returncode == 1
    assert '"failed"' in done.stdout if content else "No such file" in done.stderr
