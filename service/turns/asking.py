"""What a turn is asked for with, and what comes of asking."""

from dataclasses import dataclass
from typing import Literal

from service.domain.claims import Claim
from service.domain.history import Line
from service.turns.live import Live
from service.turns.opening import Sampling

ANY_SAMPLING = Sampling()

OnConflict = Literal["reject", "queue", "interrupt", "branch"]


@dataclass(frozen=True, slots=True)
class Request:
    """A turn that is asked for. Without a conversation a new one is made, unless `stored` is off.

    `model` None is the conversation's, or the default one; `fallbacks` None are those of the model. `parent_id` None is
    the active leaf. Without `lines` the message `parent_id` is answered, once more if it has an answer. `compared` is
    the place among models that are asked at once.
    """

    user_id: int
    key_id: int
    lines: tuple[Line, ...]
    model: str | None = None
    conversation_id: int | None = None
    parent_id: int | None = None
    sampling: Sampling = ANY_SAMPLING
    streamed: bool = False
    stored: bool = True
    on_conflict: OnConflict = "reject"
    fallbacks: tuple[str, ...] | None = None
    claim: Claim | None = None
    compared: int | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """A turn that is in the database. `live` is there where it was begun now; `replayed` where it had been before.

    `key_id` is the key that asks now.
    """

    user_id: int
    completion_id: int
    key_id: int
    live: Live | None = None
    replayed: bool = False
