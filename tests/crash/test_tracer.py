"""The tracer itself: what of a process's writes is done when it is killed before, in the middle of and after one."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.crash.names import Names
from tests.crash.ptrace import MOMENTS, Call, Moment, why_not
from tests.servers.service import ROOT

pytestmark = pytest.mark.skipif(why_not() is not None, reason=why_not() or "")


class Scribbled(NamedTuple):
    killed: bool
    writes: list[str]
    left: bytes


def scribble(folder: Path, work: str, at: int, moment: Moment, of: str = "") -> Scribbled:
    file = folder / "file"
    arguments = [str(file), work, str(at), moment, *([of] if of else [])]
    command = [sys.executable, "-m", "tests.crash.scribe", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=True)
    return Scribbled(**json.loads(done.stdout), left=file.read_bytes())


@pytest.mark.parametrize(
    ("at", "moment", "left"),
    [
        (1, "before", b""),
        (1, "after", b"one;"),
        (3, "before", b"one;two;"),
        (3, "torn", b"one;two;thr"),
        (3, "after", b"one;two;three;"),
        (5, "before", b"one;two;three;four;"),
    ],
)
def test_kill_leaves_what_was_written_before(tmp_path: Path, at: int, moment: Moment, left: bytes) -> None:
    done = scribble(tmp_path, "words", at, moment)
    assert done == (True, [*["file write"] * min(at, 4), *["file fsync"] * (at - 4)], left)


@pytest.mark.parametrize(("at", "of"), [(6, ""), (5, "file write"), (1, "other write")])
def test_process_lives_on_where_the_write_never_comes(tmp_path: Path, at: int, of: str) -> None:
    done = scribble(tmp_path, "words", at, "before", of)
    assert done == (False, [*["file write"] * 4, "file fsync"], b"one;two;three;four;")


def test_writes_of_a_kind_are_counted_apart(tmp_path: Path) -> None:
    done = scribble(tmp_path, "words", 1, "before", "file fsync")
    assert (done.killed, len(done.writes)) == (True, 5)


@pytest.mark.parametrize(("moment", "left"), list(zip(MOMENTS, [b"", b"in a ", b"in a thread"], strict=True)))
def test_other_threads_are_watched_too(tmp_path: Path, moment: Moment, left: bytes) -> None:
    assert scribble(tmp_path, "thread", 1, moment) == (True, ["file pwrite64"], left)


def test_a_process_that_ended_before_it_is_watched_keeps_nobody_waiting(tmp_path: Path) -> None:
    assert scribble(tmp_path, "nothing", 1, "before") == (False, [], b"")


def test_threads_that_come_and_go_keep_nobody_waiting(tmp_path: Path) -> None:
    assert scribble(tmp_path, "crowd", 1, "torn") == (True, ["file write"], b"on")


def test_writes_are_named_by_whom_they_go_to(tmp_path: Path) -> None:
    """A file by its path, a socket by the port at either end; nothing else has a name."""
    path = tmp_path / "file"
    with socket.create_server(("127.0.0.1", 0)) as server, path.open("wb") as file:
        port = int(server.getsockname()[1])
        names = Names(os.getpid(), ports={"server": port}, files={"file": str(path)})
        with socket.create_connection(("127.0.0.1", port)) as client:
            accepted, _ = server.accept()
            with accepted:
                ends = [names(Call(0, "write", (one.fileno(),))) for one in (client, accepted, server)]
        assert ends == ["server", "server", None]
        assert names(Call(0, "write", (file.fileno(),))) == "file"
    assert names(Call(0, "write", (10_000,))) is None
