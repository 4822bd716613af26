"""A process that writes what is known, killed at a point: `python -m tests.crash.scribe FILE WORK AT MOMENT [OF]`.

Says as JSON whether it was killed and which of its writes were seen. Apart from the tests, whose own children the
tracer must not wait for.
"""

import json
import os
import sys
import threading

from tests.crash.names import Names
from tests.crash.ptrace import Point, Tracer

WORDS = (b"one;", b"two;", b"three;", b"four;")


def words(file: int) -> None:
    """Four writes and a sync."""
    for word in WORDS:
        os.write(file, word)
    os.fsync(file)


def thread(file: int) -> None:
    """A write by another thread, then one more."""
    other = threading.Thread(target=os.pwrite, args=[file, b"in a thread", 0])
    other.start()
    other.join()
    os.write(file, b"never")


def main(path: str, work: str, at: str, moment: str, of: str | None = None) -> None:
    begin, go = os.pipe()
    child = os.fork()
    if child == 0:
        os.read(begin, 1)
        {"words": words, "thread": thread}[work](os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC))
        os._exit(0)
    tracer = Tracer(child, Point(int(at), moment, of), names=Names(child, ports={}, files={"file": path}))  # type: ignore[arg-type]  # a moment's name
    tracer.run(lambda: _write(go))
    print(json.dumps({"killed": tracer.killed, "writes": tracer.writes}))  # noqa: T201  # the test reads it


def _write(pipe: int) -> None:
    os.write(pipe, b".")


if __name__ == "__main__":
    main(*sys.argv[1:])
