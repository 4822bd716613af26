"""What the command line does with the ledger: prove it, and correct it."""

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal

from service.adapters import build_registry
from service.commands import load_settings, run_core
from service.domain.meters import to_dollars, to_nano
from service.errors import Unprocessable
from service.main import Core
from service.turns.claims import Claims
from service.usecases.audit import Audit, Proof, Repriced, Repricing
from service.usecases.limits import Limits, Scope, Subject
from service.usecases.models import Models

ALLOWED = {
    "day": "day_nano",
    "week": "week_nano",
    "month": "month_nano",
    "requests": "requests_minute",
    "tokens": "tokens_minute",
    "streams": "streams",
}


def verify(*, rebuild: bool) -> Proof:
    """Compare rollups, ledger and completions; `rebuild` makes the rollups anew first."""

    async def work(core: Core) -> Proof:
        audit = Audit(core.database, core.ids)
        if rebuild:
            await audit.rebuild()
        return await audit.verify()

    return run_core(work)


def reprice(since: datetime, *, until: datetime | None, model: str | None, dry: bool) -> Repriced:
    """Book corrections for what costs otherwise now. Times without a zone are UTC's."""
    registry = build_registry(load_settings())
    wish = Repricing(_in_utc(since), None if until is None else _in_utc(until), model, dry)

    async def work(core: Core) -> Repriced:
        await Models(core.database, registry, Claims(core.database)).refresh()
        return await Audit(core.database, core.ids).reprice(wish, registry)

    return run_core(work)


def limit(scope: Scope, subject_id: int, settings: Sequence[str]) -> None:
    """Set budgets and limits, each as `name=value`. Raises Unprocessable for what cannot be, NotFound."""
    try:
        values = dict(_setting(one) for one in settings)
    except (KeyError, ValueError, ArithmeticError):
        raise Unprocessable(f"Say {', '.join(f'{name}=…' for name in ALLOWED)} with numbers from 0 up.") from None
    if (scope == "all") != (subject_id == 0):
        raise Unprocessable("A key or a user is named with --number, all together without it.")

    async def work(core: Core) -> None:
        await Limits(core.database).edit(Subject(scope, subject_id), values)

    run_core(work)


def _setting(text: str) -> tuple[str, int | None]:
    name, _, value = text.partition("=")
    column = ALLOWED[name]
    if not value:
        return column, None
    amount = to_nano(Decimal(value)) if column.endswith("_nano") else int(value)
    if not 0 <= amount < (2**63 if column.endswith("_nano") else 2**31):
        raise ValueError(value)
    return column, amount


def describe_proof(proof: Proof) -> str:
    """A line for each comparison, and below it what is wrong."""
    erased = f", {proof.orphans} of them of completions that were erased" if proof.orphans else ""
    lines = [f"ledger: {proof.charges} charges and {proof.corrections} corrections{erased}"]
    for finding in proof.findings:
        lines.append(f"{finding.what}: {'WRONG' if finding.mistakes else 'as the ledger says'}")
        lines += [f"  {mistake}" for mistake in finding.mistakes]
    return "\n".join(lines)


def describe_repricing(done: Repriced) -> str:
    """How many charges were corrected, by how much, and what still has no price."""
    lines = [f"{done.seen} charges, {done.corrected} corrected, {to_dollars(done.nano)} dollars in all"]
    lines += [f"  {model}: {to_dollars(nano)} dollars" for model, nano in sorted(done.by_model.items())]
    lines += [f"  {model}: {count} charges have no price" for model, count in sorted(done.unpriced.items()) if count]
    return "\n".join(lines)


def _in_utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
