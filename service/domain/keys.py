"""Keys as text: `evt_<id>_<secret><checksum>`, how they are hashed, and the only place where they are compared."""

import hmac
import re
import secrets
from dataclasses import dataclass
from zlib import crc32

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
SECRET_CHARS = 32
CHECKSUM_CHARS = 6
PEPPER_CHARS = 32
PEPPER_VARIETY = 8

_TOKEN = re.compile(rf"(evt_([1-9][0-9]{{0,15}})_[0-9A-Za-z]{{{SECRET_CHARS}}})([0-9A-Za-z]{{{CHECKSUM_CHARS}}})")


class BadTokenError(ValueError):
    """A text that cannot be a key; its message may be shown."""


class WeakPepperError(ValueError):
    """A pepper that would not protect the hashes; its message may be shown."""


@dataclass(frozen=True, slots=True)
class Token:
    """A well-formed key: `id` is the key's number."""

    id: int
    text: str


def make_token(key_id: int) -> Token:
    """A new key with 190 bits of chance."""
    body = f"evt_{key_id}_" + "".join(secrets.choice(ALPHABET) for _ in range(SECRET_CHARS))
    return Token(key_id, body + checksum(body))


def parse_token(text: str) -> Token:
    """Read a key. Raises BadTokenError for a typing error, which the checksum tells from a key that is not known."""
    found = _TOKEN.fullmatch(text)
    if found is None:
        raise BadTokenError("This is not an Everturn key; those look like evt_1_….")
    if checksum(found[1]) != found[3]:
        raise BadTokenError("This key is mistyped: its checksum does not fit.")
    return Token(int(found[2]), text)


def checksum(body: str) -> str:
    """CRC-32 of the text before it, in six base-62 digits: a secret scanner can verify it without asking anyone."""
    rest, digits = crc32(body.encode()), ""
    for _ in range(CHECKSUM_CHARS):
        rest, digit = divmod(rest, len(ALPHABET))
        digits = ALPHABET[digit] + digits
    return digits


def hash_token(pepper: bytes, text: str) -> str:
    """HMAC-SHA256 as 64 hex digits: what is stored."""
    return hmac.digest(pepper, text.encode("utf-8", "surrogatepass"), "sha256").hex()


def verify(stored: str, hashed: str) -> bool:
    """Whether two hashes are the same, in constant time."""
    return hmac.compare_digest(stored.encode(), hashed.encode())


def make_pepper() -> str:
    return secrets.token_urlsafe(PEPPER_CHARS)


def check_pepper(text: str) -> bytes:
    """The pepper as bytes. Raises WeakPepperError for one that is short or monotonous."""
    if len(text) < PEPPER_CHARS:
        raise WeakPepperError(f"The pepper must have at least {PEPPER_CHARS} characters, this one has {len(text)}.")
    if len(set(text)) < PEPPER_VARIETY:
        raise WeakPepperError("The pepper repeats a few characters; take a random one.")
    return text.encode()


def derive(pepper: bytes, purpose: str) -> bytes:
    """A secret for another purpose, from which the pepper cannot be found."""
    return hmac.digest(pepper, f"everturn:{purpose}".encode(), "sha256")
