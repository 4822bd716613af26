"""Each prompt is exactly the history before it: no turn of another, nothing left out, nothing of what comes later."""

from collections.abc import Iterator

from torture.evidence import Asked, Call, Evidence, Finding
from torture.plan import MODELS, PROVIDERS
from torture.rows import Completion

CONTINUE = ["user", "(continue)"]
WIRES = {model.name: PROVIDERS[model.provider] for model in MODELS}
UPSTREAM = {model.id: model.name for model in MODELS}


def check(evidence: Evidence) -> Iterator[Finding]:
    """misordered."""
    for row in evidence.completions:
        ask = evidence.asked.get(row.max_tokens or 0)
        if ask is None:
            continue
        want = history(evidence, row) if row.stored else [["user", ask.question or ""]]
        for call in evidence.calls_of[ask.tag]:
            if _normal(call.prompt, call) != _normal(want, call):
                yield Finding("misordered", f"call {call.call} of completion {row.id} got {call.prompt}, not {want}")
            yield from _parameters(ask, row, call)


def history(evidence: Evidence, row: Completion) -> list[list[str]]:
    """What comes before an answer, from the root on, without what never got any text."""
    answer = evidence.message.get(row.message_id or 0)
    lines: list[list[str]] = []
    above = answer.parent_id if answer else None
    while above is not None:
        message = evidence.message[above]
        lines.append([message.role, message.content])
        above = message.parent_id
    talk = evidence.conversation.get(row.conversation_id or 0)
    system = [["system", talk.system_prompt]] if talk and talk.system_prompt else []
    return [*system, *(line for line in reversed(lines) if line[1])]


def _normal(prompt: list[list[str]], call: Call) -> list[list[str]]:
    """As Anthropic's wire wants it: one message for each change of roles, the user's first."""
    if WIRES.get(call.model) != "anthropic":
        return prompt
    merged: list[list[str]] = []
    for role, content in prompt:
        if merged and merged[-1][0] == role:
            merged[-1][1] += "\n\n" + content
        else:
            merged.append([role, content])
    return merged if not merged or merged[0][0] == "user" else [CONTINUE, *merged]


def _parameters(ask: Asked, row: Completion, call: Call) -> Iterator[Finding]:
    """A second attempt asks for what the first one did."""
    models = [UPSTREAM[name] for name in (ask.body["model"], *ask.body.get("fallbacks", ()))]
    want = (ask.body.get("temperature"), row.streamed)
    got = (call.temperature, call.stream)
    if call.model not in models or got != want:
        yield Finding(
            "misordered", f"call {call.call} of completion {row.id} asked {call.model} {got}, not {models} {want}"
        )
