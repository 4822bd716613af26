"""A process that writes what is known, killed at a point: `python -m tests.crash.scribe FILE WORK AT MOMENT [OF]`.

Says as JSON whether it was killed and which of its writes were seen. Apart from the tests, whose own children the
tracer must not wait for.
"""

import json
import os
import select
import sys
import threading
import time

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


def crowd(begin: int) -> None:
    """Threads that come and go until there is something to read."""
    while not select.select([begin], [], [], 0)[0]:
        few = [threading.Thread(target=time.sleep, args=[0.0001 * number]) for number in range(30)]
        for one in few:
            one.start()
        for one in few:
            one.join()


def main(path: str, work: str, at: str, moment: str, of: str | None = None) -> None:
    begin, go = os.pipe()
    child = os.fork()
    if child == 0:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        if work == "crowd":
            crowd(begin)
        if work != "nothing":
            os.read(begin, 1)
            (thread if work == "thread" else words)(file)
        os._exit(0)
    if work == "nothing":
        os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    tracer = Tracer(child, Point(int(at), moment, of), names=Names(child, ports={}, files={"file": path}))  # type: ignore[arg-type]  # a moment's name
    tracer.run(lambda: _write(go))
    print(json.dumps({"killed": tracer.killed, "writes": tracer.writes}))  # noqa: T201  # the test reads it


def _write(pipe: int) -> None:
    os.write(pipe, b".")


if __name__ == "__main__":
    main(*sys.argv[1:])
