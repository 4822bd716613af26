"""What files say they are, what they are, and how they may be shown."""

import re
from urllib.parse import quote

UNKNOWN = "application/octet-stream"
MOST_CHARACTERS = 200
_TOKEN = r"[A-Za-z0-9!#$&^_.+-]{1,100}"
_VALUE = rf'(?:{_TOKEN}|"[\x20\x21\x23-\x5b\x5d-\x7e]{{0,100}}")'
_MEDIA_TYPE = re.compile(rf"({_TOKEN}/{_TOKEN})((?:\s*;\s*{_TOKEN}={_VALUE})*)\s*;?")
# Shown in place by a browser: nothing among them runs a script. All else is for saving.
SHOWN = frozenset(
    {
        *(f"image/{kind}" for kind in ("png", "jpeg", "gif", "webp", "avif")),
        *(f"audio/{kind}" for kind in ("mpeg", "ogg", "wav", "webm", "mp4", "flac")),
        *(f"video/{kind}" for kind in ("mp4", "webm", "ogg")),
        "text/plain",
    }
)
# The images that models take, by how they begin.
_MAGIC = (
    ("image/png", re.compile(rb"\x89PNG\r\n\x1a\n")),
    ("image/jpeg", re.compile(rb"\xff\xd8\xff")),
    ("image/gif", re.compile(rb"GIF8[79]a")),
    ("image/webp", re.compile(rb"RIFF....WEBP", re.DOTALL)),
)
IMAGES = frozenset(kind for kind, _ in _MAGIC)
HEAD_BYTES = 16


def clean_media_type(text: str | None) -> str:
    """The declared type, its name in lower case. Raises ValueError for what is none."""
    if text is None or not text.strip():
        return UNKNOWN
    found = _MEDIA_TYPE.fullmatch(text.strip()) if len(text) <= MOST_CHARACTERS else None
    if found is None:
        raise ValueError("not a media type")
    return found[1].lower() + found[2]


def essence(media_type: str) -> str:
    """The type without its parameters."""
    return media_type.partition(";")[0].strip()


def sniff_image(head: bytes) -> str | None:
    """Which of IMAGES begins so."""
    return next((kind for kind, magic in _MAGIC if magic.match(head)), None)


def contradicts(media_type: str, head: bytes) -> bool:
    """Whether the first HEAD_BYTES cannot be the image that they are declared to be."""
    declared = essence(media_type)
    return declared in IMAGES and sniff_image(head) != declared


def disposition(media_type: str, path: str) -> str:
    """The header Content-Disposition, after RFC 6266: shown in place only where that is harmless."""
    name = path.rpartition("/")[2]
    plain = re.sub(r'[^ -~]|["\\%;]', "_", name)
    kind = "inline" if essence(media_type) in SHOWN else "attachment"
    extended = "" if plain == name else f"; filename*=UTF-8''{quote(name, safe='')}"
    return f'{kind}; filename="{plain}"{extended}'
