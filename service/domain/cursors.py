"""Opaque, signed page cursors: a place in one list of one owner under one set of filters."""

import hmac
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass

MAC_BYTES = 16

Value = int | str | None


@dataclass(frozen=True, slots=True)
class Cursors:
    """Seals and opens cursors with one secret, which all workers share."""

    secret: bytes

    def seal(self, scope: str, values: Sequence[Value], backwards: bool) -> str:
        """A cursor that only opens under the same scope: list, owner and filters."""
        payload = json.dumps([backwards, *values], ensure_ascii=False, separators=(",", ":")).encode()
        return urlsafe_b64encode(self._mac(scope, payload) + payload).rstrip(b"=").decode()

    def open(self, scope: str, text: str) -> tuple[list[Value], bool]:
        """The sealed values, and whether the page lies before them. Raises ValueError for what was not sealed so."""
        data = urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
        # base64 has several spellings of the same bytes; only the one that was given out is taken.
        if urlsafe_b64encode(data).rstrip(b"=").decode() != text:
            raise ValueError("not a cursor")
        mac, payload = data[:MAC_BYTES], data[MAC_BYTES:]
        if not hmac.compare_digest(mac, self._mac(scope, payload)):
            raise ValueError("another list's cursor, or a changed one")
        backwards, *values = json.loads(payload)
        return values, backwards

    def _mac(self, scope: str, payload: bytes) -> bytes:
        named = scope.encode("utf-8", "surrogatepass")
        return hmac.digest(self.secret, b"%d:%b%b" % (len(named), named, payload), "sha256")[:MAC_BYTES]
