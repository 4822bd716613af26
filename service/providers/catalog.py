"""The chat models that the known providers offer, as far as the bundled price list tells."""

import re
from dataclasses import replace

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
# What the makers say of whole families: (names, whether they look at images, whether they reason). All of them take
# tools. The first that fits counts; of a name that fits none nobody says anything.
FAMILIES = tuple(
    (re.compile(names), images, reasoning)
    for names, images, reasoning in (
        (r"^gpt-4o(?!-search)|^gpt-4\.1|^gpt-4-turbo", True, False),
        (r"^gpt-3\.5|^gpt-4(?:$|-32k|-0)", False, False),
        (r"^gpt-[5-9].*(?:chat|search)", True, False),
        (r"^o3-mini", False, True),
        (r"^gpt-[5-9]|^o[134](?:$|-)", True, True),
        (r"^claude-3[-.]7|^claude-(?:opus|sonnet)-4|^claude-haiku-4[-.]5|^claude-[a-z]+-[5-9]", True, True),
        (r"^claude-3", True, False),
    )
)
PREFERRED: dict[str, tuple[str, ...]] = {
    "openai": ("gpt-5.4-mini", "gpt-5-mini", "gpt-4o-mini"),
    "anthropic": ("claude-haiku-5-5", "claude-haiku-4-5"),
    "openrouter": ("openai/gpt-5-mini", "openai/gpt-4o-mini"),
}


def published_models(book: PriceBook, provider: str, *, prefixed: bool = False) -> tuple[Model, ...]:
    """The provider's models; `prefixed` puts the provider's name and a slash before their ids."""
    return tuple(
        able(
            Model(
                id=f"{provider}/{upstream}" if prefixed else upstream,
                provider=provider,
                upstream=upstream,
                source="genai-prices",
                max_tokens=context,
                refused_parameters=known_refusals(upstream),
            )
        )
        for upstream, context in book.published(provider)
        if not _NOT_CHAT.search(upstream) and (not prefixed or "/" in upstream)
    )


def able(model: Model) -> Model:
    """The model with what its name, less `vendor/`, tells of its use of tools, images and reasoning."""
    name = model.upstream.rpartition("/")[2]
    for names, images, reasoning in FAMILIES:
        if names.search(name):
            return replace(model, tools=True, images=images, reasoning=reasoning)
    return model


def undated(name: str) -> str | None:
    """The name without its release date, such as gpt-4o for gpt-4o-2024-11-20; None where it has none."""
    found = _DATED.match(name)
    return None if found is None else found["base"]
