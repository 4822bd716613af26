"""`make torture`: tortures the service, and says whether it kept its promises. Ends with 1 where it did not."""

import argparse
import asyncio
import random
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from torture.checker import judge
from torture.conduct import run
from torture.evidence import load
from torture.plan import KINDS, Plan
from torture.report import report


def main() -> int:
    """The command."""
    options = arguments()
    if options.check:
        return conclude(options.check, f"the evidence in {options.check}")
    kinds = KINDS if options.database == "both" else (options.database,)
    return max(one_run(options, kind) for kind in kinds)


def one_run(options: argparse.Namespace, kind: str) -> int:
    plan = Plan(
        kind=kind,  # type: ignore[arg-type]  # argparse lets no other through
        seed=options.seed,
        turns=options.turns,
        seconds=options.seconds,
        workers=options.workers,
        talkers=options.talkers,
        faults=options.faults if options.every else 0,
        every=options.every,
    )
    with ExitStack() as stack:
        if options.keep:
            folder = options.keep / f"{kind}-{plan.seed}"
            folder.mkdir(parents=True)
        else:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="everturn-torture-")))
        asyncio.run(run(plan, folder))
        return conclude(folder, f"{kind}, seed {plan.seed}, {plan.workers} workers, {plan.talkers} clients")


def conclude(folder: Path, title: str) -> int:
    """Judge and report."""
    verdict = judge(load(folder))
    print(report(verdict, title))
    return 1 if verdict.findings else 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m torture", description="Is a turn ever lost, doubled or unaccounted?"
    )
    parser.add_argument("--database", choices=(*KINDS, "both"), default="both")
    parser.add_argument("--turns", type=int, default=10_000, help="stop after so many accepted turns (10,000)")
    parser.add_argument("--faults", type=int, default=350, help="and so many faults (350)")
    parser.add_argument("--seconds", type=float, default=1200, help="or after so long, whatever was reached (1,200)")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="what every choice follows from")
    parser.add_argument("--workers", type=int, default=3, help="services beside each other (3)")
    parser.add_argument("--talkers", type=int, default=48, help="clients at once (48)")
    parser.add_argument(
        "--every", type=float, default=1.5, help="mean seconds between faults of a kind (1.5); 0 is peace"
    )
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the evidence and the workers' logs there")
    parser.add_argument("--check", type=Path, metavar="DIR", help="only judge evidence that was kept")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
