"""What is put under load: the service as people run it, and the two floors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.databases import Databases, Kind, is_postgres, sqlite_path
from bench.processes import ROOT, BenchError, Subject, cores, uvicorn

MODELS = ("canned-64", "canned-256", "canned-64-20ms", "canned-256-5ms")
PEPPER = "a-pepper-for-the-bench-only-0123456789"
SYNCHRONOUS = os.environ.get("EVERTURN_SQLITE_SYNCHRONOUS", "full")


@dataclass(frozen=True, slots=True)
class Field:
    """One database's subjects, all ready; the service is None in a run of the floors alone."""

    kind: Kind
    forward: Subject
    storing: Subject
    service: Subject | None
    url: str

    @property
    def subjects(self) -> tuple[Subject, ...]:
        return (self.forward, self.storing, *([self.service] if self.service else []))


@contextmanager
def field(kind: Kind, databases: Databases, *, provider: str, floors_only: bool) -> Iterator[Field]:
    """Starts the floors and the service on one database."""
    url = databases.new(kind, "turns")
    with ExitStack() as stack:
        forward = stack.enter_context(floor("forward", provider))
        storing = stack.enter_context(floor("forward + store", provider, databases.new(kind, "floor")))
        started = None if floors_only else stack.enter_context(service(url, provider, databases.directory))
        yield Field(kind, forward, storing, started, url)


@contextmanager
def floor(name: str, provider: str, url: str = "") -> Iterator[Subject]:
    """A floor that stores nothing, or its turns in the database at `url`."""
    where = url if is_postgres(url) else sqlite_path(url)
    env = {**os.environ, "FLOOR_PROVIDER": provider, "FLOOR_DATABASE": where, "FLOOR_SYNCHRONOUS": SYNCHRONOUS}
    with uvicorn("bench.floors:app", name=name, env=env, core=cores()[0]) as subject:
        yield subject


@contextmanager
def service(url: str, provider: str, directory: Path) -> Iterator[Subject]:
    """The service on a new database, migrated, with an admin's key."""
    env = environment(url, provider, directory)
    with served(env, admin_key(env)) as subject:
        yield subject


@contextmanager
def served(env: Mapping[str, str], key: str) -> Iterator[Subject]:
    """The service as `environment` sets it, in one worker, on the subjects' core."""
    with uvicorn("service.main:app", name="Everturn", env=env, core=cores()[0], key=key) as subject:
        yield subject


def environment(url: str, provider: str, directory: Path) -> dict[str, str]:
    """This process's environment without any setting of the service's, and then the bench's own."""
    upstream = {"name": "canned", "wire": "openai", "base_url": provider, "api_key": "x"}
    price = {"max_tokens": 100_000, "input_price": "1", "output_price": "2"}
    models = [{"id": name, "provider": "canned", "upstream": name, **price} for name in MODELS]
    keys = ("OPENAI_", "ANTHROPIC_", "OPENROUTER_", "LITELLM_", "EVERTURN_")
    return {name: value for name, value in os.environ.items() if not name.startswith(keys)} | {
        "EVERTURN_PROVIDERS": json.dumps([upstream]),
        "EVERTURN_MODELS": json.dumps(models),
        "EVERTURN_DATABASE_URL": url,
        "EVERTURN_DATA_DIR": str(directory),
        "EVERTURN_PEPPER": PEPPER,
        "EVERTURN_SQLITE_SYNCHRONOUS": SYNCHRONOUS,
        "EVERTURN_LOCAL_MODEL": "off",
        "EVERTURN_LOG_LEVEL": "warning",
    }


def admin_key(env: Mapping[str, str]) -> str:
    """Migrates the database, adds an admin and returns a key of theirs, by the service's command line."""
    everturn(env, "migrate")
    everturn(env, "users", "create", "--username", "bench", "--role", "admin")
    return user_key(env, "bench", kind="admin")


def user_key(env: Mapping[str, str], username: str, *, kind: str = "user") -> str:
    """A new key of a user's."""
    printed = everturn(env, "keys", "create", "--user", username, "--kind", kind)
    found = [word for word in printed.split() if word.startswith("evt_")]
    if not found:
        raise BenchError(f"no key in what `everturn keys create` printed:\n{printed}")
    return found[0]


def everturn(env: Mapping[str, str], *arguments: str) -> str:
    command = [sys.executable, "-c", "from service.cli import main; main()", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=dict(env), capture_output=True, text=True, timeout=1800, check=False)
    if done.returncode:
        raise BenchError(f"everturn {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout
