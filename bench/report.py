"""The tables of a run, for the terminal and for the README, and the machine that they are of."""

from __future__ import annotations

import os
import platform
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

README = Path(__file__).with_name("README.md")
START, END = "<!-- measured -->", "<!-- /measured -->"


@dataclass(frozen=True, slots=True)
class Aim:
    """A figure against what issue 2 asks for; `met` is None where the run says nothing about it."""

    what: str
    measured: str
    met: bool


@dataclass(frozen=True, slots=True)
class Part:
    """One part's table and aims. Cells are text, already rounded to what the figure is worth."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    aims: tuple[Aim, ...] = ()
    note: str = ""


def markdown(parts: Sequence[Part], *, how: str) -> str:
    """The whole report: the machine, the aims, then each part."""
    lines = [f"{machine()}", "", how, ""]
    aims = [aim for part in parts for aim in part.aims]
    if aims:
        rows = tuple((aim.what, aim.measured, "yes" if aim.met else "**no**") for aim in aims)
        lines += [*_table(("aim", "measured", "met"), rows), ""]
    for part in parts:
        lines += [f"### {part.title}", "", *_table(part.columns, part.rows), ""]
        lines += [part.note, ""] if part.note else []
    return "\n".join(lines)


def write(text: str) -> None:
    """Puts a report between the README's markers. Raises ValueError where they are missing."""
    whole = README.read_text()
    head, tail = whole.index(START) + len(START), whole.index(END)
    README.write_text(f"{whole[:head]}\n{text}{whole[tail:]}")


def machine() -> str:
    """The day, the processor, its cores, the kernel, Python, and what a synced write costs."""
    where = f"{_processor()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}"
    synced = f"a synced write of 8 kB takes {_sync_ms():.2f} ms"
    return f"{datetime.now(UTC):%Y-%m-%d}: {where}, Python {platform.python_version()}; {synced}."


def number(value: float) -> str:
    """Three digits or so: 12,345 · 123 · 12.3 · 1.23."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.0f} %" if whole else "–"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[index]) for row in (columns, *rows)) for index in range(len(columns))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    body = [[row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))] for row in rows]
    head = [name.ljust(width) for name, width in zip(columns, widths, strict=True)]
    return ["| " + " | ".join(cells) + " |" for cells in (head, rule, *body)]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _sync_ms() -> float:
    """The median of 50 overwrites with fsync where the databases of a run lie."""
    times = []
    with tempfile.TemporaryFile(buffering=0) as file:
        for _ in range(50):
            began = time.perf_counter()
            file.seek(0)
            file.write(bytes(8192))
            os.fsync(file.fileno())
            times.append(time.perf_counter() - began)
    return median(times) * 1000
