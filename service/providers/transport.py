"""The HTTP client that the adapters share: one pooled session, four timeouts, every failure mapped."""

import asyncio
import io
import urllib.request
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp
from pydantic_core import from_json
from yarl import URL

from service import __version__
from service.providers import wire
from service.providers.base import Timeouts
from service.providers.sse import EventSplitter, EventTooLong, parse

MAX_REPLY_BYTES: Final = 32 * 1024 * 1024
MAX_ERROR_BYTES: Final = 64 * 1024
STREAM_LIMIT: Final = 1024 * 1024
DRAIN_SECONDS: Final = 1.0

BASE_HEADERS: Final = {
    "Accept": "application/json",
    # A compressed stream comes in the lumps that its compressor likes.
    "Accept-Encoding": "identity",
    "Content-Type": "application/json",
    "User-Agent": f"everturn/{__version__}",
}
Locate = Callable[[], Awaitable[str]]
Drain = Callable[[aiohttp.ClientResponse], None]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a provider is and what every request carries.

    `base_url` may be found out on each call, as for a server that is still starting. `secrets` never get into a detail.
    `lasting` is off for one that closes connections without saying so: each call opens its own.
    """

    base_url: str | Locate
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)
    timeouts: Timeouts = field(default_factory=Timeouts)
    connections: int = 256
    lasting: bool = True


class HttpClient:
    """One provider's connections. Redirects are not followed, cookies not kept, proxies taken from the environment."""

    def __init__(self, provider: str, endpoint: Endpoint) -> None:
        self.provider = provider
        self._endpoint = endpoint
        self._session: aiohttp.ClientSession | None = None
        self._urls: dict[str, URL] = {}
        self._draining: set[aiohttp.ClientResponse] = set()

    async def fetch(self, method: str, path: str, *, body: bytes | None = None) -> Any:
        """The JSON of an answer in one piece. Raises `ProviderFailure`."""
        try:
            async with asyncio.timeout(self._endpoint.timeouts.total):
                response = await self._send(method, path, body)
                try:
                    return await self._read_json(response)
                finally:
                    response.close()
        except (aiohttp.ClientError, OSError, aiohttp.http.HttpProcessingError) as error:
            raise wire.from_exception(self.provider, error) from error

    async def stream(self, path: str, body: bytes) -> "EventStream":
        """The events of a streamed answer, once its headers are there. Raises `ProviderFailure`."""
        timeouts = self._endpoint.timeouts
        started = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout_at(started + min(timeouts.first_byte, timeouts.total)):
                response = await self._send("POST", path, body)
                if response.content_type != "text/event-stream":
                    await self._refuse(response)
        except (aiohttp.ClientError, OSError, aiohttp.http.HttpProcessingError) as error:
            raise wire.from_exception(self.provider, error) from error
        return EventStream(self.provider, response, timeouts=timeouts, started=started, drain=self._drain)

    async def warm(self) -> None:
        """Open the session, and look the address up."""
        self._open()
        await self._url("")

    async def close(self) -> None:
        for response in tuple(self._draining):
            self._end_drain(response)
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _send(self, method: str, path: str, body: bytes | None) -> aiohttp.ClientResponse:
        url = await self._url(path)
        try:
            response = await self._request(method, url, body)
        except aiohttp.ClientOSError as error:
            if not _was_unsent(error):
                raise
            response = await self._request(method, url, body)
        if response.status // 100 == 2:
            return response
        try:
            text = await _read(response, MAX_ERROR_BYTES)
        except aiohttp.ClientError:
            text = b""
        finally:
            response.close()
        raise wire.from_status(
            self.provider, response.status, body=_parsed(text), headers=response.headers, secrets=self._endpoint.secrets
        )

    async def _request(self, method: str, url: URL, body: bytes | None) -> aiohttp.ClientResponse:
        # aiohttp writes a large body at once, which would hold the loop; from a file it goes in pieces.
        data = io.BytesIO(body) if body is not None and len(body) > STREAM_LIMIT else body
        return await self._open().request(method, url, data=data, allow_redirects=False)

    async def _read_json(self, response: aiohttp.ClientResponse) -> Any:
        if "json" not in response.content_type:
            raise wire.failure(self.provider, "malformed", why="no JSON")
        data = await _read(response, MAX_REPLY_BYTES)
        if len(data) > MAX_REPLY_BYTES:
            raise wire.failure(self.provider, "malformed", why="too long")
        try:
            reply = parse(data)
        except ValueError as error:
            raise wire.failure(self.provider, "malformed", why="broken JSON") from error
        if not isinstance(reply, dict):
            raise wire.failure(self.provider, "malformed", why="no JSON object")
        if reply.get("error"):
            raise wire.from_error_object(self.provider, reply["error"], self._endpoint.secrets)
        return reply

    async def _refuse(self, response: aiohttp.ClientResponse) -> None:
        try:
            await self._read_json(response)
        finally:
            response.close()
        raise wire.failure(self.provider, "malformed", why="no event stream")

    def _drain(self, response: aiohttp.ClientResponse) -> None:
        """Leave a finished answer's connection open until HTTP's own end, which gives it back to the pool."""
        self._draining.add(response)
        asyncio.get_running_loop().call_later(DRAIN_SECONDS, self._end_drain, response)

    def _end_drain(self, response: aiohttp.ClientResponse) -> None:
        self._draining.discard(response)
        response.close()

    async def _url(self, path: str) -> URL:
        base = self._endpoint.base_url
        if isinstance(base, str):
            if path not in self._urls:
                self._urls[path] = URL(base.rstrip("/") + path)
            return self._urls[path]
        return URL((await base()).rstrip("/") + path)

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            base = self._endpoint.base_url
            self._session = aiohttp.ClientSession(
                headers=self._endpoint.headers,
                connector=aiohttp.TCPConnector(
                    limit=self._endpoint.connections, ttl_dns_cache=60, force_close=not self._endpoint.lasting
                ),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._endpoint.timeouts.connect),
                cookie_jar=aiohttp.DummyCookieJar(),
                # Not trust_env: that reads ~/.netrc and the proxies again for each request.
                proxy=_find_proxy(URL(base)) if isinstance(base, str) else None,
            )
        return self._session


class EventStream:
    """An event stream being read, with one lazily re-armed timer for its first byte, idle and total timeouts.

    The timer breaks the read itself instead of cancelling a task, so a reader may be suspended between two reads
    for as long as it likes, and may be another task than the one that began.
    """

    def __init__(
        self, provider: str, response: aiohttp.ClientResponse, timeouts: Timeouts, started: float, drain: Drain
    ) -> None:
        self.ended = False
        self._drain = drain
        self._provider = provider
        self._response = response
        self._splitter = EventSplitter()
        self._loop = asyncio.get_running_loop()
        self._idle = timeouts.idle
        self._total = started + timeouts.total
        self._begun = False
        self._finished = False
        self._deadline = min(started + timeouts.first_byte, self._total)
        self._timer = self._loop.call_at(min(self._deadline, self._loop.time() + self._idle), self._watch)

    async def read(self) -> list[bytes]:
        """The data of the events that the next read completes, at least one; [] at the end, and `ended` is set.

        Raises `ProviderFailure`. Between two reads only the total timeout runs.
        """
        content, splitter = self._response.content, self._splitter
        if self._begun:
            self._deadline = min(self._loop.time() + self._idle, self._total)
        try:
            while chunk := await content.readany():
                if events := splitter.feed(chunk):
                    self._begun = True
                    self._deadline = self._total
                    return events
                self._deadline = min(self._loop.time() + self._idle, self._total)
        except EventTooLong as error:
            raise wire.failure(self._provider, "malformed", why="an event is too long") from error
        except (aiohttp.ClientError, OSError, aiohttp.http.HttpProcessingError) as error:
            raise wire.from_exception(self._provider, error) from error
        self.ended = True
        last = splitter.finish()
        return [] if last is None else [last]

    def finish(self) -> None:
        """Let the connection go back to the pool: the wire's own last event came, HTTP's end follows soon."""
        self._finished = True
        self._timer.cancel()
        if not self._response.closed:
            self._drain(self._response)

    def close(self) -> None:
        """Close the connection at once, unless the answer is finished."""
        if not self._finished:
            self._timer.cancel()
            self._response.close()

    def _watch(self) -> None:
        now = self._loop.time()
        if now < self._deadline:
            self._timer = self._loop.call_at(min(self._deadline, now + self._idle), self._watch)
        else:
            self._response.content.set_exception(TimeoutError())


def _was_unsent(error: BaseException | None) -> bool:
    """Whether a kept connection turned out closed before the request was written: asking again doubles nothing."""
    while error is not None and not isinstance(error, aiohttp.ClientConnectionResetError):
        error = error.__cause__
    return error is not None


async def _read(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """The body; reading stops once it is longer than `limit`."""
    data = await response.content.readany()
    if response.content.at_eof():
        return data
    parts, size = [data], len(data)
    while size <= limit and (data := await response.content.readany()):
        parts.append(data)
        size += len(data)
    return b"".join(parts)


def _parsed(text: bytes) -> Any:
    try:
        return from_json(text)
    except ValueError:
        return text.decode("utf-8", "replace")


def _find_proxy(url: URL) -> str | None:
    """The proxy that HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY say, as the official SDKs read them."""
    proxies = urllib.request.getproxies()
    if url.host is None or urllib.request.proxy_bypass(url.host):
        return None
    proxy = proxies.get(url.scheme) or proxies.get("all")
    return proxy if proxy is None or "://" in proxy else f"http://{proxy}"
