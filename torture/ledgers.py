"""Ledgers: files of JSON lines to which each party adds what it does, before it does it."""

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

Record = Mapping[str, Any]


class Ledger:
    """An append-only file. A line is handed to the system before `write` returns, so a killed process loses none."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)

    def write(self, what: str, **facts: Any) -> None:
        """A line with the moment, on the clock that all processes of this machine share."""
        line = {"t": round(time.monotonic(), 4), "what": what, **facts}
        self._file.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")

    def close(self) -> None:
        self._file.close()


def read(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a ledger, in their order; a last one that was cut off is left out."""
    for line in path.read_bytes().split(b"\n"):
        if line:
            try:
                yield json.loads(line)
            except ValueError:
                return
