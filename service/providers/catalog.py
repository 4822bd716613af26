"""The chat models that the known providers offer, as far as the bundled price list tells."""

import re

from service.providers.base import Model
from service.providers.parameters import known_refusals
from service.providers.prices import PriceBook

# What the list holds besides models that answer a chat with text on the chat wire.
_NOT_CHAT = re.compile(
    r"embedding|whisper|tts|transcribe|translate|realtime|audio|image|moderation|davinci|babbage|curie|^ada$|instruct$"
    r"|^ft:|ft-$|computer-use|deep-research|-live|codex|cyber|rosalind|:extended|:batch$|^claude-(?:v1|2|instant|3-)"
    r"|^(?:o1|o3|gpt-5(?:\.\d)?)-pro$|lyria|safeguard|^gpt-oss-|^gpt-3\.5-0301$|-preview$|^o1-mini$"
)
_DATED = re.compile(r"^(?P<base>.+?)-(?:\d{4}-\d\d-\d\d|\d{8}|latest)$")
PREFERRED: dict[str, tuple[str, ...]] = {
    "openai": ("gpt-5.4-mini", "gpt-5-mini", "gpt-4o-mini"),
    "anthropic": ("claude-haiku-5-5", "claude-haiku-4-5"),
    "openrouter": ("openai/gpt-5-mini", "openai/gpt-4o-mini"),
}


def published_models(book: PriceBook, provider: str, *, prefixed: bool = False) -> tuple[Model, ...]:
    """The provider's models; `prefixed` puts the provider's name and a slash before their ids."""
    return tuple(
        Model(
            id=f"{provider}/{upstream}" if prefixed else upstream,
            provider=provider,
            upstream=upstream,
            source="genai-prices",
            max_tokens=context,
            refused_parameters=known_refusals(upstream),
        )
        for upstream, context in book.published(provider)
        if not _NOT_CHAT.search(upstream) and (not prefixed or "/" in upstream)
    )


def undated(name: str) -> str | None:
    """The name without its release date, such as gpt-4o for gpt-4o-2024-11-20; None where it has none."""
    found = _DATED.match(name)
    return None if found is None else found["base"]
