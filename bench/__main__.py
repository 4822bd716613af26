"""`make bench`: measures the service beside its floors and prints what came out.

One core is the subjects', each alone in its turn; the provider, the load generator and Postgres have the rest.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from bench import durability, folding, limits, listing, memory, searching, streams, turns, usage
from bench.databases import Databases, Kind, postgres
from bench.library import library
from bench.processes import BenchError, cores, pin, provider
from bench.report import Part, markdown, write
from bench.rounds import Effort
from bench.subjects import field

LOADS = {"turns": turns.run, "flood": streams.run_flood, "single": streams.run_single, "first": streams.run_first}
READS = {"listing": listing.run, "search": searching.run}
PARTS = (*LOADS, "durability", "memory", *READS, "usage", "limits", "folding")


def main() -> int:
    """The command. 1 where an answer was wrong or a turn was not stored."""
    options = arguments()
    pin(cores()[1])
    parts: list[Part] = []
    try:
        with ExitStack() as stack:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="everturn-bench-")))
            server = stack.enter_context(postgres()) if "postgres" in options.kinds else ""
            for part in measure(options, Databases(directory, server), stack.enter_context(provider())):
                print(f"measured: {part.title}", file=sys.stderr)
                parts.append(part)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    text = markdown(parts, how=how(options))
    print(text)
    if options.json:
        options.json.write_text(json.dumps([asdict(part) for part in parts], indent=1))
    if options.write:
        write(text)
    return 0


def measure(options: argparse.Namespace, databases: Databases, provider_url: str) -> Iterator[Part]:
    """Every part that was asked for, on each database."""
    effort = Effort(options.seconds, options.rounds)
    for kind in options.kinds:
        if set(options.only) - {*READS, "usage", "limits", "folding"}:
            with field(kind, databases, provider=provider_url, floors_only=options.floors) as here:
                yield from (run(here, effort) for name, run in LOADS.items() if name in options.only)
                if "durability" in options.only and not options.floors:
                    yield from durability.run(here, databases, effort, provider=provider_url)
                if "memory" in options.only:
                    yield memory.run(here)
        reads = [run for name, run in READS.items() if name in options.only and not options.floors]
        if reads:
            searchable, messages = "search" in options.only, options.messages
            with library(kind, databases, provider=provider_url, messages=messages, searchable=searchable) as shelf:
                yield from (run(shelf, Effort(1.0, 1)) for run in reads)
        if "usage" in options.only and not options.floors:
            yield usage.run(kind, databases, provider=provider_url, entries=options.entries, effort=Effort(1.0, 1))
        if "limits" in options.only and not options.floors:
            yield limits.run(kind, databases)
        if "folding" in options.only and not options.floors:
            yield folding.run(kind, databases, answers=options.answers)


def arguments() -> argparse.Namespace:
    """The options, with what --quick changes in them."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Everturn beside its floors.")
    parser.add_argument("--quick", action="store_true", help="1 s loads, 3 rounds, 50,000 messages: a rough look")
    parser.add_argument("--only", action="append", choices=PARTS, help="this part; may be repeated")
    parser.add_argument("--database", choices=("sqlite", "postgres", "both"), default="both")
    parser.add_argument("--seconds", type=float, help="of each load (3)")
    parser.add_argument("--rounds", type=int, help="of each load, interleaved (5)")
    parser.add_argument("--messages", type=int, help="of the history that is listed and searched (1,000,000)")
    parser.add_argument("--entries", type=int, help="of the usage reports' ledger (5,000,000)")
    parser.add_argument("--answers", type=int, default=5_000, help="whose journals are folded (5,000)")
    parser.add_argument("--floors", action="store_true", help="the floors alone, without the service")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the tables there")
    parser.add_argument("--write", action="store_true", help="put the tables into bench/README.md")
    options = parser.parse_args()
    quick = (1.0, 3, 50_000) if options.quick else (3.0, 5, 1_000_000)
    options.seconds = options.seconds or quick[0]
    options.rounds = options.rounds or quick[1]
    options.messages = options.messages or quick[2]
    options.entries = options.entries or (200_000 if options.quick else 5_000_000)
    options.only = options.only or list(PARTS)
    kinds: tuple[Kind, ...] = ("sqlite", "postgres")
    options.kinds = tuple(kind for kind in kinds if options.database in (kind, "both"))
    return options


def how(options: argparse.Namespace) -> str:
    """A sentence that says how it was measured."""
    whom = "**The floors alone, without the service.** " if options.floors else ""
    return (
        f"{whom}Medians of {options.rounds} interleaved rounds of {options.seconds:g} s each; the listings one "
        "round of 1 s a page. Subjects on one core, each alone in its turn; provider, load generator and Postgres "
        "on the rest."
    )


if __name__ == "__main__":
    sys.exit(main())
