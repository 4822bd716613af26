"""The seam between the turn engine and a model provider."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

from service.domain.history import Line
from service.domain.meters import Meters, Prices

FinishReason = Literal["stop", "length", "content_filter", "tool_calls", "other"]
ModelSource = Literal["database", "settings", "genai-prices", "discovered", "local"]


@dataclass(frozen=True, slots=True)
class Model:
    """A language model that can be asked. None: nobody has said.

    `id` is this service's name for it and `upstream` the provider's own. `max_tokens` is the context window.
    `prices` are the administrator's own; `price_source` and `price_version` say where they stand and which ones they
    are. `fallbacks` name the models to ask when this one does not answer, `refused_parameters` what it is known to
    refuse.
    """

    id: str
    provider: str
    upstream: str
    source: ModelSource
    max_tokens: int | None = None
    max_output_tokens: int | None = None
    prices: Prices | None = None
    price_source: str = "settings"
    price_version: str = ""
    fallbacks: tuple[str, ...] = ()
    streaming: bool | None = True
    tools: bool | None = None
    images: bool | None = None
    reasoning: bool | None = None
    refused_parameters: frozenset[str] = frozenset()


# The bytes of an image by their hash; None where they are not here any more. Raises ProviderFailure.
Load = Callable[[str], Awaitable[bytes | None]]


@dataclass(frozen=True, slots=True)
class Call:
    """One request to a model. `model` is the provider's own name for it; None leaves a parameter out.

    `load` has the images of the messages. `pictures` are those in base64, by their hash: an adapter fetches them when
    it sends, and keeps them no longer than that.
    """

    model: str
    messages: tuple[Line, ...]
    stream: bool
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    load: Load | None = None
    pictures: Mapping[str, str] = field(default_factory=dict)


class Delta(NamedTuple):
    """The next piece of the answer, cleaned: no NUL, no lone surrogate, never empty."""

    kind: Literal["text", "reasoning"]
    text: str


@dataclass(frozen=True, slots=True)
class Ending:
    """The last piece of an answer that came to its end. `meters` is None where the provider sent no usage.

    `warnings` are sentences for the caller, such as a parameter that had to be left out.
    """

    finish_reason: FinishReason
    meters: Meters | None = None
    upstream_id: str | None = None
    upstream_model: str | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Counted:
    """What the provider has counted so far. `whole` says that the output is in it."""

    meters: Meters
    whole: bool


Piece = Delta | Ending | Counted

FailureKind = Literal[
    "rate_limited",  # 429
    "overloaded",  # 503, 529
    "server_error",  # other 5xx
    "unreachable",  # connect failed or the connection was cut
    "timeout",  # connect, first byte, idle or total
    "truncated",  # the stream ended without its end
    "malformed",  # bytes that are not the wire's
    "misconfigured",  # 401, 403, 404: the administrator's to mend
    "refused",  # 400, 413, 422: the same request will fail again
    "circuit_open",  # not called: it failed too often just now
    "unreadable",  # not called: an image of the question could not be read here
]
RETRYABLE: frozenset[FailureKind] = frozenset(
    {
        "rate_limited",
        "overloaded",
        "server_error",
        "unreachable",
        "timeout",
        "truncated",
        "malformed",
        "circuit_open",
        "unreadable",
    }
)


class ProviderFailure(Exception):
    """A call that failed, mapped once in `wire.py`. `detail` is safe to show and holds no secret.

    `retry_after` is in seconds, from the provider's own header.
    """

    def __init__(
        self,
        kind: FailureKind,
        detail: str,
        *,
        status: int | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind = kind
        self.detail = detail
        self.status = status
        self.retry_after = retry_after

    @property
    def retryable(self) -> bool:
        return self.kind in RETRYABLE


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds. `first_byte` holds for streams only: a reply in one piece comes when all of it is made."""

    connect: float = 10.0
    first_byte: float = 60.0
    idle: float = 60.0
    total: float = 600.0


class Provider(Protocol):
    """An adapter for one wire at one address."""

    @property
    def name(self) -> str: ...

    def run(self, call: Call) -> AsyncGenerator[list[Piece]]:
        """The answer in batches, one for each read of the socket, none of them empty.

        The last piece of the last batch is the `Ending`. Raises `ProviderFailure`, also in the middle. Closing the
        iterator closes the upstream connection.
        """
        ...

    async def list_models(self) -> list[str]:
        """The provider's own names of the models that it offers now. Raises `ProviderFailure`."""
        ...

    async def warm(self) -> None:
        """Do now what the first call would wait for. Raises `ProviderFailure`."""
        ...

    async def close(self) -> None:
        """Close the connections; calls still running fail."""
        ...
