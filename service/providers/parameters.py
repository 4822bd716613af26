"""Which request parameters a model refuses: known by its name, or learnt from its provider's 400."""

import re
from collections.abc import Mapping

from service.providers.base import ProviderFailure

SAMPLING = frozenset({"temperature", "top_p"})
DROPPABLE = ("temperature", "top_p", "top_k", "stop", "stop_sequences", "seed", "stream_options")
RENAMED = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}

# OpenAI's reasoning models and Anthropic's from Opus 4.7 on answer 400 to sampling parameters, as their guides say.
_NO_SAMPLING = re.compile(
    r"^(?:o[1-9](?:-|$)|gpt-5(?:-mini|-nano)?(?:-\d{4}-\d\d-\d\d)?$)"
    r"|^claude-(?:fable|mythos)-|^claude-(?:opus|sonnet|haiku)-(?:4-[7-9]|[5-9])(?:-|$)"
)
_UNSUPPORTED = re.compile(
    r"unsupported|not support|deprecated|not permitted|not allowed|unknown|unrecognized|unexpected|cannot both"
)


def known_refusals(upstream: str) -> frozenset[str]:
    """The parameters that a model of this name is known to refuse; `vendor/` before the name is looked over."""
    return SAMPLING if _NO_SAMPLING.search(upstream.rpartition("/")[2]) else frozenset()


class Learnt:
    """What the providers' answers taught about their models, for as long as the process lives."""

    def __init__(self) -> None:
        self._refused: dict[str, frozenset[str]] = {}

    def refused(self, model: str) -> frozenset[str]:
        """The parameters to leave out, or to rename if they are in `RENAMED`."""
        found = self._refused.get(model)
        if found is None:
            found = self._refused[model] = known_refusals(model)
        return found

    def learn(self, model: str, sent: Mapping[str, object], failure: ProviderFailure) -> bool:
        """Whether the failure names a parameter that was sent and can be left out; it is then remembered."""
        named = _named(failure) if failure.kind == "refused" else None
        if named is None or named not in sent or named in self.refused(model):
            return False
        self._refused[model] = self.refused(model) | {named}
        return True


def sentence(parameter: str, model: str) -> str:
    """The warning for a parameter that was left out."""
    return f"{parameter} was left out: {model} does not take it."


def _named(failure: ProviderFailure) -> str | None:
    text = failure.detail.lower()
    if not _UNSUPPORTED.search(text):
        return None
    places = {name: found.start() for name in (*DROPPABLE, *RENAMED) if (found := re.search(rf"\b{name}\b", text))}
    return min(places, key=lambda name: places[name]) if places else None
