"""The one place where what goes wrong on a provider's wire becomes a `ProviderFailure`."""

import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp

from service.domain.text import clean
from service.providers.base import FailureKind, ProviderFailure

MAX_DETAIL = 300
MAX_RETRY_AFTER = 3600.0
_SECRET = re.compile(r"(?i)\b(?:sk|pk|rk|gsk|xai|key|evt)[-_][\w*.-]{6,}|\bbearer\s+\S+")
_REDACTED = "[redacted]"

_BY_STATUS: dict[int, FailureKind] = {
    400: "refused",
    408: "timeout",
    409: "overloaded",
    413: "refused",
    415: "refused",
    422: "refused",
    425: "overloaded",
    429: "rate_limited",
    503: "overloaded",
    529: "overloaded",
}
# The words that OpenAI's `type` and `code` and Anthropic's `type` use for an error inside a 200.
_BY_WORD: tuple[tuple[str, FailureKind], ...] = (
    ("rate_limit", "rate_limited"),
    ("quota", "rate_limited"),
    ("overloaded", "overloaded"),
    ("unavailable", "overloaded"),
    ("timeout", "timeout"),
    ("authentication", "misconfigured"),
    ("api_key", "misconfigured"),
    ("permission", "misconfigured"),
    ("billing", "misconfigured"),
    ("not_found", "misconfigured"),
    ("invalid_request", "refused"),
    ("context_length", "refused"),
    ("content_policy", "refused"),
    ("too_large", "refused"),
)
_SAID: dict[FailureKind, str] = {
    "rate_limited": "limits how often it may be asked",
    "overloaded": "is overloaded",
    "server_error": "had an error of its own",
    "unreachable": "could not be reached",
    "timeout": "took too long",
    "truncated": "stopped in the middle of its answer",
    "malformed": "answered something that is not its wire's",
    "misconfigured": "did not accept this service's configuration",
    "refused": "refused the request",
    "circuit_open": "is left alone for now",
}


def from_status(
    provider: str,
    status: int,
    *,
    body: Any,
    headers: Mapping[str, str],
    secrets: Sequence[str] = (),
) -> ProviderFailure:
    """The failure that an answer with this HTTP status is. `body` is its parsed JSON, or its text."""
    kind = _kind_of(status)
    return ProviderFailure(
        kind,
        _detail(provider, kind, body, secrets, f" (HTTP {status})"),
        status=status,
        retry_after=_retry_after(headers),
    )


def from_error_object(provider: str, error: Any, secrets: Sequence[str] = ()) -> ProviderFailure:
    """The failure that an `error` object is which came with a 200, whole or in the middle of a stream."""
    fields = error if isinstance(error, dict) else {}
    code = fields.get("code")
    if isinstance(code, int) and not isinstance(code, bool) and 400 <= code <= 599:
        kind, status = _kind_of(code), code
    else:
        words = f"{fields.get('type')} {code}".lower()
        kind = next((kind for word, kind in _BY_WORD if word in words), "server_error")
        status = None
    return ProviderFailure(kind, _detail(provider, kind, {"error": error}, secrets), status=status)


def from_exception(provider: str, error: BaseException) -> ProviderFailure:
    """The failure that an exception of the HTTP client is, a timeout too."""
    if isinstance(error, TimeoutError):
        return failure(provider, "timeout")
    if isinstance(error, aiohttp.InvalidURL | aiohttp.NonHttpUrlClientError | aiohttp.ClientConnectorCertificateError):
        return failure(provider, "misconfigured", why=type(error).__name__)
    if isinstance(error, aiohttp.ClientConnectionError | aiohttp.ClientPayloadError | OSError):
        return failure(provider, "unreachable", why=type(error).__name__)
    return failure(provider, "malformed", why=type(error).__name__)


def failure(provider: str, kind: FailureKind, *, why: str = "") -> ProviderFailure:
    """A failure that this service noticed itself. `why` is its own word, never the provider's."""
    return ProviderFailure(kind, f"{provider} {_SAID[kind]}" + (f" ({why})" if why else ""))


def message_of(body: Any) -> str:
    """The sentence in an error body of OpenAI's, Anthropic's or a like shape; empty where there is none."""
    if isinstance(body, str):
        return "" if body.lstrip().startswith("<") else body
    if not isinstance(body, dict):
        return ""
    error = body.get("error", body)
    if isinstance(error, str):
        return error
    for key in ("message", "detail"):
        if isinstance(error, dict) and isinstance(error.get(key), str):
            return str(error[key])
    return ""


def redact(text: str, secrets: Sequence[str] = ()) -> str:
    """The text on one line, cut to 300 characters, without the secrets and what looks like a key."""
    for secret in secrets:
        if len(secret) >= 4:
            text = text.replace(secret, _REDACTED)
    text = " ".join(clean(_SECRET.sub(_REDACTED, text)).split())
    return text if len(text) <= MAX_DETAIL else text[: MAX_DETAIL - 1] + "…"


def _kind_of(status: int) -> FailureKind:
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if status >= 500:
        return "server_error"
    return "misconfigured"


def _detail(provider: str, kind: FailureKind, body: Any, secrets: Sequence[str], suffix: str = "") -> str:
    said = redact(message_of(body), secrets) if kind == "refused" else ""
    if said:
        return redact(f"{provider} {_SAID[kind]}: {said}")
    return f"{provider} {_SAID[kind]}{suffix}"


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds from `Retry-After`, a number or an HTTP date (RFC 9110, 10.2.3), at most an hour."""
    value = headers.get("Retry-After", "").strip()
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            date = parsedate_to_datetime(value)
        except ValueError:
            return None
        seconds = (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return None if math.isnan(seconds) else min(max(seconds, 0.0), MAX_RETRY_AFTER)
