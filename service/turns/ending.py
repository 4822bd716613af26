"""From how a run ended to the rows and events that record it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic
from typing import Any

from service.domain.events import Event
from service.domain.history import estimate_prompt, estimate_tokens
from service.domain.meters import Meters, Use, to_dollars
from service.domain.text import clean
from service.errors import EverturnError, ProviderRefused, ProviderUnavailable, WorkerLost
from service.providers.base import Ending, ProviderFailure
from service.providers.registry import Registry
from service.repositories.turns import Finish
from service.turns.live import Live, Turn
from service.turns.work import event_row

MOST_TOKENS = 1_000_000_000
# How a turn ends that may not have said anything.
SILENT = ("failed", "cancelled")
INCOMPLETE_REASONS = ("length", "content_filter")


@dataclass(frozen=True, slots=True)
class End:
    """How a run ended: with the provider's ending, with an error, or because its user wanted that.

    One that was cancelled between two tries has the `failure` of the last.
    """

    ending: Ending | None = None
    error: EverturnError | None = None
    failure: ProviderFailure | None = None
    cancelled: bool = False

    @property
    def finish_reason(self) -> str | None:
        if self.cancelled:
            return "cancelled"
        return self.ending.finish_reason if self.ending else None

    def status(self, live: Live) -> str:
        if self.cancelled:
            return "cancelled"
        if self.ending:
            return "incomplete" if self.ending.finish_reason in INCOMPLETE_REASONS else "completed"
        return "incomplete" if live.answer else "failed"


def from_failure(failure: ProviderFailure, turn: Turn) -> End:
    """The end of a run whose provider failed; the question is kept, so the error names where."""
    kind = ProviderRefused if failure.kind == "refused" else ProviderUnavailable
    after = None if failure.retry_after is None else max(1, round(failure.retry_after))
    error = (
        kind(failure.detail, facts=ids_of(turn))
        if after is None
        else kind(failure.detail, retry_after=after, facts=ids_of(turn))
    )
    return End(error=error, failure=failure)


def stopped(live: Live) -> End:
    """The end of a run that was stopped."""
    if live.stopping == "cancelled":
        return End(cancelled=True, failure=live.failed)
    return End(error=WorkerLost(facts=ids_of(live.turn)), failure=live.failed)


def ids_of(turn: Turn) -> dict[str, object]:
    """The numbers by which a caller finds the turn again."""
    return {
        "completion_id": turn.completion_id,
        "conversation_id": turn.conversation_id,
        "message_id": turn.message_id,
    }


@dataclass(frozen=True, slots=True)
class Closing:
    """The rows that finish a turn, and its last events: those not yet journalled and the terminal one."""

    finish: Finish
    tail: list[Event]
    error: EverturnError | None


def close_turn(live: Live, end: End, *, registry: Registry, pending: list[Event]) -> Closing:
    """How a turn is to be recorded. `pending` are its events that were not given to the journal yet."""
    turn = live.turn
    use = use_of(live, end, registry)
    outcome = _outcome(live, end, live.spent + use)
    tail = [*pending, *_tail(live, end, outcome)]
    answer = {
        "user_id": turn.user_id,
        "id": turn.message_id,
        "completion_id": turn.completion_id,
        "content": live.answer.content,
        "reasoning": live.answer.reasoning_content,
        "status": outcome["status"],
        "model": turn.model.id,
    }
    ran = turn.attempt > 0
    finish = Finish(
        outcome=outcome,
        answer=answer if turn.message_id else None,
        attempt=_attempt(live, end) if ran else None,
        events=event_row(turn, tail),
        entry=entry_row(turn, use, error_kind=_error_kind(end)) if ran else None,
        passed=_passed(turn) if turn.compared and outcome["status"] in SILENT and not live.answer.content else None,
    )
    return Closing(finish, tail, end.error)


def entry_row(turn: Turn, use: Use, *, error_kind: str | None) -> dict[str, Any]:
    """The ledger entry of the turn's present attempt."""
    return {
        "user_id": turn.user_id,
        "id": turn.entry_id,
        "completion_id": turn.completion_id,
        "attempt": turn.attempt,
        "conversation_id": turn.conversation_id,
        "key_id": turn.key_id,
        "model": turn.model.id,
        "provider": turn.model.provider,
        **_fields(use.meters),
        "cost_nano": use.cost.nano,
        "price_source": use.cost.source,
        "price_version": use.cost.version,
        "provenance": use.counted_by,
        "error_kind": error_kind,
    }


def usage_of(outcome: Mapping[str, Any]) -> dict[str, Any]:
    """The disjoint meters and the cost of an outcome, as callers see them."""
    return {name: outcome[name] for name in Meters.__slots__} | {"cost_usd": to_dollars(outcome["cost_nano"])}


def use_of(live: Live, end: End, registry: Registry) -> Use:
    """What the present attempt used, and who says so. A call that used nothing costs nothing."""
    meters, counted_by = _meters(live, end)
    if meters == Meters():
        return Use(counted_by=counted_by)
    return Use(meters, registry.cost(live.turn.model, meters, datetime.now(UTC)), counted_by)


def _meters(live: Live, end: End) -> tuple[Meters, str]:
    """What was used, and who counted. Where a provider has not counted it is estimated.

    A call that failed without a word used nothing. One that was cancelled had read its prompt.
    """
    if end.ending and end.ending.meters and _is_sane(end.ending.meters):
        return end.ending.meters, "provider"
    counted = live.counted if live.counted and _is_sane(live.counted.meters) else None
    if counted and counted.whole:
        return counted.meters, "partial"
    silent = not live.answer and not end.ending and not counted
    if silent and (end.failure or not end.cancelled):
        return Meters(), "estimated"
    written = estimate_tokens(live.answer.content)
    thought = estimate_tokens(live.answer.reasoning_content or "")
    output = Meters(output_tokens=written + thought, reasoning_tokens=thought)
    if counted:
        return counted.meters + output, "partial"
    return output + Meters(input_tokens=estimate_prompt(live.turn.call.messages)), "estimated"


def _is_sane(meters: Meters) -> bool:
    """No model reads or writes so much in one call: such a count is a provider's mistake, not a bill."""
    return all(0 <= getattr(meters, name) <= MOST_TOKENS for name in Meters.__slots__)


def _error_kind(end: End) -> str | None:
    """How the attempt failed; None where it did not."""
    if end.failure:
        return end.failure.kind
    return end.error.code if end.error else None


def _outcome(live: Live, end: End, use: Use) -> dict[str, Any]:
    turn = live.turn
    warnings = (*turn.warnings, *(end.ending.warnings if end.ending else ()))
    return {
        "user_id": turn.user_id,
        "id": turn.completion_id,
        "epoch": turn.epoch,
        "status": end.status(live),
        "finish_reason": end.finish_reason,
        "error_code": end.error.code if end.error else None,
        "error_detail": end.error.detail[:1000] if end.error else None,
        "warnings": list(warnings),
        "attempt_count": turn.attempt,
        **_fields(use.meters),
        "cost_nano": use.cost.nano,
        "first_token_ms": _since(live, live.first_token),
        "duration_ms": _since(live, monotonic()),
    }


def _passed(turn: Turn) -> dict[str, Any]:
    return {"user_id": turn.user_id, "id": turn.conversation_id, "active_leaf_id": turn.message_id}


def _tail(live: Live, end: End, outcome: dict[str, Any]) -> list[Event]:
    if end.error:
        problem = {"status": end.error.status, "code": end.error.code, "title": end.error.title}
        return [Event(live.next_seq, "error", {**problem, "detail": end.error.detail, **ids_of(live.turn)})]
    ended = {"status": outcome["status"], "finish_reason": outcome["finish_reason"]}
    usage = {**usage_of(outcome), "finish_reason": outcome["finish_reason"]}
    return [Event(live.next_seq, "usage", usage), Event(live.next_seq + 1, "done", ended)]


def _attempt(live: Live, end: End) -> dict[str, Any]:
    turn = live.turn
    said = end.failure.detail if end.failure else end.error.detail if end.error else None
    return {
        "user_id": turn.user_id,
        "completion_id": turn.completion_id,
        "number": turn.attempt,
        "status": "failed" if end.failure and not live.answer else end.status(live),
        "upstream_id": clean(end.ending.upstream_id)[:200] if end.ending and end.ending.upstream_id else None,
        "error_kind": _error_kind(end),
        "error_detail": said[:1000] if said else None,
    }


def _fields(meters: Meters) -> dict[str, int]:
    return {name: getattr(meters, name) for name in Meters.__slots__}


def _since(live: Live, moment: float | None) -> int | None:
    return None if moment is None else round((moment - live.started) * 1000)
