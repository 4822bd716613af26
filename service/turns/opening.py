"""From what a caller asks to the rows of an accepted turn."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from service.db.ids import Ids
from service.domain.claims import Claim
from service.domain.history import Line, fit, show, window_for
from service.domain.titles import title_key
from service.domain.tree import Place, Position, place
from service.providers.base import Call, Model
from service.repositories.messages import row_of
from service.repositories.turns import Begin, Row
from service.turns.live import Turn


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the model is to answer; None leaves the choice to the provider."""

    temperature: float | None = None
    max_tokens: int | None = None
    top_p: float | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Branch:
    """The conversation that a turn goes on with. `parent` is None where it has no message yet."""

    conversation_id: int
    parent: Position | None


@dataclass(frozen=True, slots=True)
class Opening:
    """A turn to be accepted. Without a `branch` a new conversation is made, unless nothing is `stored`.

    `lines` are the caller's new messages, `prompt` all that the model is to read. Without lines the branch's last
    message is answered, once more if it has an answer. `title` is for a conversation without one. A turn that
    `waits_for` another completion has no prompt yet, but so many tokens are `expected` in it. `purpose` says what the
    service asks for by itself, `compared` the place among the models that are asked at once.
    """

    user_id: int
    key_id: int | None
    model: Model
    lines: tuple[Line, ...]
    prompt: tuple[Line, ...]
    sampling: Sampling
    streamed: bool
    stored: bool = True
    branch: Branch | None = None
    title: str | None = None
    warnings: tuple[str, ...] = ()
    fallbacks: tuple[Model, ...] = ()
    waits_for: int | None = None
    expected: int = 0
    claim: Claim | None = None
    purpose: str | None = None
    compared: int | None = None


async def open_turn(opening: Opening, ids: Ids, worker: str) -> tuple[Turn, Begin]:
    """Number the turn's rows. Raises DatabaseUnavailable when ids have run out and no more can be had."""
    completion_id = (await ids.take("completion"))[0]
    entry_id = (await ids.take("ledger"))[0]
    places: list[Place] = []
    conversation_id = None
    if opening.stored:
        branch = opening.branch
        conversation_id = branch.conversation_id if branch else (await ids.take("conversation"))[0]
        places = place(branch.parent if branch else None, await ids.take("message", len(opening.lines) + 1))
    turn = Turn(
        user_id=opening.user_id,
        completion_id=completion_id,
        conversation_id=conversation_id,
        message_id=places[-1].id if places else None,
        key_id=opening.key_id,
        entry_id=entry_id,
        asked=opening.model,
        model=opening.model,
        call=call_of(opening.model, opening.prompt, opening.sampling, streamed=opening.streamed),
        fallbacks=opening.fallbacks,
        waits_for=opening.waits_for,
        warnings=opening.warnings,
        attempt=0 if opening.waits_for else 1,
        compared=opening.compared is not None,
    )
    return turn, _rows(opening, turn, places, worker)


def call_of(model: Model, prompt: Sequence[Line], sampling: Sampling, *, streamed: bool) -> Call:
    """What the model is asked."""
    return Call(
        model=model.upstream,
        messages=tuple(prompt),
        stream=streamed,
        max_tokens=sampling.max_tokens,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        stop=sampling.stop,
        seed=sampling.seed,
    )


def fall_back(turn: Turn, model: Model) -> Turn:
    """The turn as another model is asked: what does not fit its window is left out."""
    kept, notes = choose(turn.call.messages, model, turn.call.max_tokens)
    said = (f"{turn.model.id} did not answer; {model.id} was asked instead.", *notes)
    return replace(
        turn,
        model=model,
        call=replace(turn.call, model=model.upstream, messages=tuple(kept)),
        fallbacks=turn.fallbacks[turn.fallbacks.index(model) + 1 :],
        warnings=(*turn.warnings, *said),
    )


def choose(lines: Sequence[Line], model: Model, answer: int | None) -> tuple[list[Line], tuple[str, ...]]:
    """The lines that a model is shown when its answer may have so many tokens, and warnings about what it is not."""
    shown, unseen = show(lines, sighted=model.images is not False)
    kept, dropped = fit(shown, window_for(model.max_tokens, answer))
    notes = []
    if dropped:
        notes.append(f"The {dropped} oldest messages do not fit the model's window and were left out.")
    if unseen:
        why = "one request holds no more" if model.images is not False else f"{model.id} takes none"
        notes.append(f"The {unseen} oldest images were left out: {why}.")
    return kept, tuple(notes)


def attempt_row(turn: Turn) -> Row:
    """The turn's present attempt, as it begins."""
    return {
        "user_id": turn.user_id,
        "completion_id": turn.completion_id,
        "number": turn.attempt,
        "provider": turn.model.provider,
        "upstream_model": turn.model.upstream,
        "status": "in_progress",
    }


def _rows(opening: Opening, turn: Turn, places: list[Place], worker: str) -> Begin:
    sampling = opening.sampling
    others = {
        "top_p": sampling.top_p,
        "stop": list(sampling.stop) or None,
        "seed": sampling.seed,
        "fallbacks": [model.id for model in opening.fallbacks] or None,
        "purpose": opening.purpose,
        "compared": opening.compared,
    }
    completion: Row = {
        "user_id": turn.user_id,
        "id": turn.completion_id,
        "conversation_id": turn.conversation_id,
        "message_id": turn.message_id,
        "key_id": turn.key_id,
        "model": turn.model.id,
        "provider": turn.model.provider,
        "temperature": sampling.temperature,
        "max_tokens": sampling.max_tokens,
        "parameters": {name: value for name, value in others.items() if value is not None},
        "streamed": opening.streamed,
        "stored": opening.stored,
        "status": "queued" if turn.waits_for else "in_progress",
        "warnings": list(turn.warnings),
        "attempt_count": turn.attempt,
        "worker": worker,
        "epoch": turn.epoch,
    }
    attempt = attempt_row(turn) if turn.attempt else None
    conversation, moved = _conversation(opening, turn, len(places)) if places else (None, None)
    return Begin(conversation, moved, _messages(opening, turn, places), completion, attempt, _claim(opening, turn))


def _claim(opening: Opening, turn: Turn) -> Row | None:
    if opening.claim is None:
        return None
    return asdict(opening.claim) | {"holder": turn.completion_id, "completion_id": turn.completion_id}


def _conversation(opening: Opening, turn: Turn, added: int) -> tuple[Row | None, Row | None]:
    row: Row = {
        "user_id": turn.user_id,
        "id": turn.conversation_id,
        "title": opening.title,
        "title_key": title_key(opening.title),
        "model": turn.model.id,
        "active_leaf_id": turn.message_id,
        "message_count": added,
    }
    if opening.branch:
        return None, row
    return {**row, "system_prompt": None}, None


def _messages(opening: Opening, turn: Turn, places: list[Place]) -> list[Row]:
    if not places:
        return []
    talk = (turn.user_id, turn.conversation_id or 0)
    rows = [row_of(*talk, where, line) for where, line in zip(places[:-1], opening.lines, strict=True)]
    answer = row_of(*talk, places[-1], Line("assistant", ""))
    return [*rows, {**answer, "status": "in_progress", "model": turn.model.id, "completion_id": turn.completion_id}]
