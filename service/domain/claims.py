"""Idempotency keys: the name under which a request is carried out once."""

import json
import re
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

KEY = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,253}[\x21-\x7e])?")


@dataclass(frozen=True, slots=True)
class Claim:
    """A key of one user's, and what tells the request that came with it from others."""

    user_id: int
    key: str
    fingerprint: str


def parse_key(text: str) -> str:
    """The key of a header, bare or quoted. Raises ValueError unless it is 1 to 255 printable ASCII characters."""
    key = text.strip()
    if len(key) >= 2 and key[0] == key[-1] == '"':
        key = key[1:-1]
    if not KEY.fullmatch(key):
        raise ValueError("not a key")
    return key


def fingerprint(method: str, path: str, *, body: Any) -> str:
    """The same for requests that say the same, however their JSON is spelt; 64 hex digits."""
    said = json.dumps([method, path, body], sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return sha256(said.encode()).hexdigest()
