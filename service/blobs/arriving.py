"""Uploads on their way: what is still to be written counts already, so what lies on the disk stays within the quota."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from service.errors import QuotaExceeded


@dataclass(frozen=True, slots=True)
class Quota:
    """How much each user may have."""

    bytes: int
    files: int


class Arriving:
    """The bytes that arrive in this worker, by user, of whom each may have `quota` in all."""

    def __init__(self, quota: int) -> None:
        self._quota = quota
        self._sizes: Counter[int] = Counter()

    @contextmanager
    def expect(self, user_id: int, length: int | None, *, room: int) -> Iterator["Expected"]:
        """One upload, of a known length or not, of a user who has so much room left. Raises QuotaExceeded."""
        expected = Expected(self._sizes, user_id, quota=self._quota, room=room)
        try:
            expected.grow(length or 0)
            yield expected
        finally:
            expected.end()


class Expected:
    """The bytes of one upload among those that arrive for its user."""

    def __init__(self, sizes: Counter[int], user_id: int, *, quota: int, room: int) -> None:
        self._sizes = sizes
        self._user_id = user_id
        self._quota = quota
        self._room = room
        self._size = 0

    def grow(self, size: int) -> None:
        """It has so many bytes at least. Raises QuotaExceeded."""
        more = max(0, size - self._size)
        if more and self._sizes[self._user_id] + more > self._room:
            raise exceeded(self._quota)
        self._size += more
        self._sizes[self._user_id] += more

    def end(self) -> None:
        self._sizes[self._user_id] -= self._size
        if not self._sizes[self._user_id]:
            del self._sizes[self._user_id]


def exceeded(quota: int) -> QuotaExceeded:
    return QuotaExceeded(f"A user's files may take {quota} bytes; delete some first.", facts={"quota_bytes": quota})


def too_many(quota: int) -> QuotaExceeded:
    return QuotaExceeded(f"A user may have {quota} files.", facts={"quota_files": quota})
