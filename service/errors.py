"""Every failure that a caller may see, as one tree: class → HTTP status → code.

EverturnError                 500  internal_error
├── BadRequest                400  bad_request
│   └── BadCursor             400  bad_cursor
├── Unauthenticated           401  unauthenticated
├── Forbidden                 403  forbidden
├── NotFound                  404  not_found
│   └── UnknownModel          404  model_not_found
├── Stalled                   408  request_stalled
├── Conflict                  409  conflict
│   ├── Duplicate             409  duplicate
│   └── ConversationBusy      409  conversation_busy
├── PreconditionFailed        412  precondition_failed
├── BodyTooLarge              413  body_too_large
│   └── QuotaExceeded         413  quota_exceeded
├── RangeNotSatisfiable       416  range_not_satisfiable
├── Unprocessable             422  unprocessable
│   ├── ProviderRefused       422  provider_refused
│   ├── IdempotencyMismatch   422  idempotency_mismatch
│   └── ReportTooLarge        422  report_too_large
├── LimitExceeded             429  limit_exceeded
├── StorageFull               507  storage_full
│   └── DatabaseFull          507  storage_full  (also a DatabaseUnavailable)
└── Unavailable               503  unavailable
    ├── DatabaseUnavailable   503  database_unavailable
    ├── NoModelConfigured     503  no_model_configured
    ├── ProviderUnavailable   503  provider_unavailable
    └── WorkerLost            503  worker_lost
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from service.domain.quotas import Quota

# No room, a quota of the file system, a limit of the process.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class EverturnError(Exception):
    """A failure with a safe, public `detail`; `retry_after` is in seconds. `replayed`: it is an earlier answer."""

    status = 500
    code = "internal_error"
    title = "Internal error"

    def __init__(
        self,
        detail: str = "",
        *,
        retry_after: int | None = None,
        loc: tuple[str | int, ...] = (),
        facts: dict[str, object] | None = None,
    ) -> None:
        super().__init__(detail or self.title)
        self.detail = detail or self.title
        self.retry_after = retry_after
        self.loc = loc
        self.facts = facts or {}
        self.replayed = False
        # What is left of the caller's limits, as domain/quotas.py has it.
        self.quotas: tuple[Quota, ...] = ()


class BadRequest(EverturnError):
    status, code, title = 400, "bad_request", "Bad request"


class BadCursor(BadRequest):
    code, title = "bad_cursor", "The cursor is not one of this list's"


class Unauthenticated(EverturnError):
    status, code, title = 401, "unauthenticated", "A valid key is needed"


class Forbidden(EverturnError):
    status, code, title = 403, "forbidden", "This key may not do that"


class NotFound(EverturnError):
    status, code, title = 404, "not_found", "Not found"


class UnknownModel(NotFound):
    code, title = "model_not_found", "Unknown model"


class Stalled(EverturnError):
    status, code, title = 408, "request_stalled", "The body came too slowly"


class Conflict(EverturnError):
    status, code, title = 409, "conflict", "Conflict"


class Duplicate(Conflict):
    code, title = "duplicate", "It exists already"


class ConversationBusy(Conflict):
    code, title = "conversation_busy", "The conversation has a running turn"


class PreconditionFailed(EverturnError):
    status, code, title = 412, "precondition_failed", "What is there is not what the request expects"


class BodyTooLarge(EverturnError):
    status, code, title = 413, "body_too_large", "The body is too large"


class QuotaExceeded(BodyTooLarge):
    code, title = "quota_exceeded", "The user's files take all the space that they may"


class RangeNotSatisfiable(EverturnError):
    """`facts` hold the `size` of what is there."""

    status, code, title = 416, "range_not_satisfiable", "None of the ranges lies within the file"


class Unprocessable(EverturnError):
    """A well-formed request that cannot be carried out; `loc` says where, as in FastAPI's 422."""

    status, code, title = 422, "unprocessable", "The request cannot be carried out"


class ProviderRefused(Unprocessable):
    code, title = "provider_refused", "The model's provider refused the request"


class IdempotencyMismatch(Unprocessable):
    code, title = "idempotency_mismatch", "The idempotency key was used for another request"


class ReportTooLarge(Unprocessable):
    code, title = "report_too_large", "The report is too large"


class LimitExceeded(EverturnError):
    status, code, title = 429, "limit_exceeded", "A limit is used up"


class StorageFull(EverturnError):
    status, code, title = 507, "storage_full", "The disk is full"


class Unavailable(EverturnError):
    status, code, title = 503, "unavailable", "Not available now"

    def __init__(
        self,
        detail: str = "",
        *,
        retry_after: int | None = 2,
        loc: tuple[str | int, ...] = (),
        facts: dict[str, object] | None = None,
    ) -> None:
        super().__init__(detail, retry_after=retry_after, loc=loc, facts=facts)


class DatabaseUnavailable(Unavailable):
    code, title = "database_unavailable", "The database does not answer"


class DatabaseFull(StorageFull, DatabaseUnavailable):
    """Nothing was written. For a turn that runs it is an outage like another: it waits until there is room again."""

    title = "The database's disk is full"

    def __init__(
        self,
        detail: str = "",
        *,
        retry_after: int | None = None,
        loc: tuple[str | int, ...] = (),
        facts: dict[str, object] | None = None,
    ) -> None:
        super().__init__(detail, retry_after=retry_after, loc=loc, facts=facts)


class NoModelConfigured(Unavailable):
    code, title = "no_model_configured", "No model is configured"


class ProviderUnavailable(Unavailable):
    code, title = "provider_unavailable", "The model's provider does not answer"


class WorkerLost(Unavailable):
    code, title = "worker_lost", "The worker stopped before the answer was complete"


@contextmanager
def as_full(detail: str = "") -> Iterator[None]:
    """What the system says of a disk without room becomes StorageFull; every other error passes."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise StorageFull(detail) from error
        raise


def find_error(code: str) -> type[EverturnError]:
    """The class with this code; the root of the tree where there is none."""
    todo: list[type[EverturnError]] = [EverturnError]
    while todo:
        found = todo.pop()
        if found.code == code:
            return found
        todo += found.__subclasses__()
    return EverturnError
